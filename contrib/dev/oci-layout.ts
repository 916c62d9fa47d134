import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

export interface LayoutImage {
  /** An empty or missing directory that becomes the OCI layout. */
  readonly dir: string;
  readonly tag: string;
  /** Uncompressed tar files, bottom to top. */
  readonly layerTars: readonly string[];
  /** The `config` part of the image config: Env, Entrypoint, Cmd, User, WorkingDir… */
  readonly config: Readonly<Record<string, unknown>>;
  /** Seconds since 1970, as the image's creation time. */
  readonly createdEpoch: number;
  readonly signal: AbortSignal;
}

interface Blob {
  readonly digest: string;
  readonly size: number;
}

/** Writes one linux/amd64 image as an OCI layout with gzip layers; equal input gives equal bytes. */
export async function writeOciLayout(image: LayoutImage): Promise<{ manifestDigest: string }> {
  const blobs = join(image.dir, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const layers: Blob[] = [];
  const diffIds: string[] = [];
  for (const tar of image.layerTars) {
    const { packed, diffId } = await addLayer(blobs, tar, image.signal);
    layers.push(packed);
    diffIds.push(diffId);
  }
  const created = new Date(image.createdEpoch * 1000).toISOString();
  const config = await addJson(blobs, {
    created,
    architecture: 'amd64',
    os: 'linux',
    config: image.config,
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map(() => ({ created, created_by: 'builderd contrib/dev' })),
  });
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await addJson(blobs, {
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: layers.map((blob) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      ...blob,
    })),
  });
  const annotations = { 'org.opencontainers.image.ref.name': image.tag };
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [{ mediaType: manifestType, ...manifest, annotations }],
  };
  await writeFile(join(image.dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(image.dir, 'index.json'), JSON.stringify(index));
  return { manifestDigest: manifest.digest };
}

async function addLayer(
  blobs: string,
  tar: string,
  signal: AbortSignal,
): Promise<{ packed: Blob; diffId: string }> {
  const plain = new Meter();
  const packed = new Meter();
  const staged = join(blobs, '.layer');
  // zlib writes no name and no time into the header, so the bytes depend on the tar alone.
  await pipeline(createReadStream(tar), plain, createGzip(), packed, createWriteStream(staged), {
    signal,
  });
  const blob = packed.result();
  await rename(staged, join(blobs, blob.digest.slice('sha256:'.length)));
  return { packed: blob, diffId: plain.result().digest };
}

async function addJson(blobs: string, value: unknown): Promise<Blob> {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(join(blobs, hex), bytes);
  return { digest: `sha256:${hex}`, size: bytes.length };
}

/** Passes bytes on, and knows their count and digest at the end. */
class Meter extends Transform {
  readonly #hash = createHash('sha256');
  #size = 0;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(chunk);
    this.#size += chunk.length;
    done(null, chunk);
  }

  result(): Blob {
    return { digest: `sha256:${this.#hash.digest('hex')}`, size: this.#size };
  }
}
