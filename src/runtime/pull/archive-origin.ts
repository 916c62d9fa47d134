import { createHash } from 'node:crypto';
import { parseDigest, sha256 } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import { requireDigest } from '../registry/document-digest.ts';
import {
  blobPathOf,
  MAX_DOCUMENT_BYTES,
  MAX_LAYERS,
  OCI_CONFIG,
  OCI_LAYER,
  OCI_MANIFEST,
  parseImageConfig,
  requireDocumentSize,
} from '../registry/documents.ts';
import { ArchiveMembers, type MemberRange } from './archive-members.ts';
import { chooseDockerImage, type DockerArchiveImage } from './docker-manifest.ts';
import type { ImageOrigin, OriginCall } from './image-origin.ts';
import { checkLayoutMarker, chooseLayoutEntry } from './layout-index.ts';
import { requireSize } from './layout-origin.ts';
import { type LocalFile, openLocalFile, readRange, readWhole } from './local-file.ts';

type Ask = (call: OriginCall) => Promise<Descriptor>;

/** A tar of an OCI image layout, read in place. */
export async function openOciArchive(
  path: string,
  tag: string | undefined,
  call: OriginCall,
): Promise<ImageOrigin> {
  return openArchive('oci-archive', path, tag, call, (archive) => async (each) => {
    checkLayoutMarker(await archive.small(archive.members.get('oci-layout'), 'oci-layout', each));
    return chooseLayoutEntry(
      await archive.small(archive.members.get('index.json'), 'index.json', each),
      tag,
    );
  });
}

/** What `docker save` writes, read in place; its image becomes an OCI manifest of our making. */
export async function openDockerArchive(
  path: string,
  tag: string | undefined,
  call: OriginCall,
): Promise<ImageOrigin> {
  return openArchive('docker-archive', path, tag, call, (archive) => async (each) => {
    const list = archive.members.get('manifest.json');
    const image = chooseDockerImage(await archive.small(list, 'manifest.json', each), tag);
    return describeDockerImage(archive, image, each);
  });
}

async function openArchive(
  transport: string,
  path: string,
  tag: string | undefined,
  call: OriginCall,
  resolver: (archive: Archive) => Ask,
): Promise<ImageOrigin> {
  const file = await openLocalFile(path, 'the image archive');
  try {
    const archive = new Archive(file, await ArchiveMembers.scan(file, call));
    return {
      reference: `${transport}:${path}${tag === undefined ? '' : `:${tag}`}`,
      labels: {},
      resolve: resolver(archive),
      document: (descriptor, each) => archive.document(descriptor, each),
      blob: (descriptor, offset, each) => archive.blob(descriptor, offset, each),
      [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
    };
  } catch (reason) {
    await file[Symbol.asyncDispose]();
    throw reason;
  }
}

class Archive {
  readonly members: ArchiveMembers;
  readonly #file: LocalFile;
  /** Blobs that lie under other names than their digest, and documents that we made. */
  readonly #ranges = new Map<string, MemberRange>();
  readonly #made = new Map<string, Buffer>();

  constructor(file: LocalFile, members: ArchiveMembers) {
    this.#file = file;
    this.members = members;
  }

  small(range: MemberRange, what: string, call: OriginCall): Promise<Buffer> {
    return readWhole(this.#file, range, MAX_DOCUMENT_BYTES, what, call);
  }

  read(range: MemberRange, call: OriginCall): AsyncIterable<Buffer> {
    return readRange(this.#file, range.start, range.start + range.size, call);
  }

  alias(descriptor: Descriptor, range: MemberRange): void {
    this.#ranges.set(descriptor.digest, range);
  }

  make(bytes: Buffer): Descriptor {
    const digest = sha256(bytes);
    this.#made.set(digest, bytes);
    return { mediaType: OCI_MANIFEST, digest, size: bytes.length };
  }

  async document(descriptor: Descriptor, call: OriginCall): Promise<Buffer> {
    const made = this.#made.get(descriptor.digest);
    if (made !== undefined) return made;
    requireDocumentSize(descriptor, descriptor.digest);
    const bytes = await this.small(this.#find(descriptor), descriptor.digest, call);
    requireDigest(descriptor.digest, bytes, 'the image manifest');
    return bytes;
  }

  blob(descriptor: Descriptor, offset: number, call: OriginCall): AsyncIterable<Buffer> {
    const { start, size } = this.#find(descriptor);
    return readRange(this.#file, start + offset, start + size, call);
  }

  #find(descriptor: Descriptor): MemberRange {
    const range =
      this.#ranges.get(descriptor.digest) ??
      this.members.get(`blobs/${blobPathOf(descriptor.digest)}`);
    requireSize(descriptor, range.size);
    return range;
  }
}

async function describeDockerImage(
  archive: Archive,
  image: DockerArchiveImage,
  call: OriginCall,
): Promise<Descriptor> {
  if (image.layers.length > MAX_LAYERS) {
    throw new BuilderdError(
      'source.too_large',
      `Cannot use the image archive: it has ${image.layers.length} layers, the limit is ${MAX_LAYERS}`,
    );
  }
  const configRange = archive.members.get(image.config);
  const configBytes = await archive.small(configRange, 'the image config', call);
  const config: Descriptor = {
    mediaType: OCI_CONFIG,
    digest: sha256(configBytes),
    size: configBytes.length,
  };
  archive.alias(config, configRange);
  const { diffIds } = parseImageConfig(configBytes, image.layers.length);
  const layers: Descriptor[] = [];
  for (const [index, path] of image.layers.entries()) {
    const range = archive.members.get(path);
    const packing = await packingOf(archive, range, call);
    const diffId = diffIds[index];
    // A plain layer's digest is its diff ID by definition; the store checks it while it copies.
    const digest =
      packing === '' && diffId !== undefined ? diffId : await hashOf(archive, range, call);
    const layer: Descriptor = { mediaType: `${OCI_LAYER}${packing}`, digest, size: range.size };
    archive.alias(layer, range);
    layers.push(layer);
  }
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers };
  return archive.make(Buffer.from(JSON.stringify(manifest), 'utf8'));
}

async function packingOf(
  archive: Archive,
  range: MemberRange,
  call: OriginCall,
): Promise<'' | '+gzip' | '+zstd'> {
  const head = await archive.small(
    { start: range.start, size: Math.min(4, range.size) },
    'a layer',
    call,
  );
  const magic = head.toString('hex');
  if (magic.startsWith('1f8b')) return '+gzip';
  return magic === '28b52ffd' ? '+zstd' : '';
}

async function hashOf(
  archive: Archive,
  range: MemberRange,
  call: OriginCall,
): Promise<Descriptor['digest']> {
  const hash = createHash('sha256');
  for await (const chunk of archive.read(range, call)) hash.update(chunk);
  return parseDigest(`sha256:${hash.digest('hex')}`);
}
