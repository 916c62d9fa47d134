import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import { Scope } from '../../core/scope.ts';
import type { BlobStore, StoreSession } from '../blob-store.ts';
import { MAX_DOCUMENT_BYTES, requireDocumentSize } from '../registry/documents.ts';
import { requireDigest } from '../registry/document-digest.ts';
import { formatReference, type ImageReference, parseReference } from '../registry/reference.ts';
import type { RegistryDeps } from '../registry/registry-client.ts';
import type { AcquiredImage, AcquireOptions, ImageSource } from './acquired-image.ts';
import { openDockerArchive, openOciArchive } from './archive-origin.ts';
import { collectBytes } from './collect-bytes.ts';
import type { ImageOrigin, OriginCall } from './image-origin.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import { openLayoutOrigin } from './layout-origin.ts';
import { openRegistryOrigin } from './registry-origin.ts';
import { type SelectedImage, selectManifest } from './select-manifest.ts';
import { storeImage } from './store-image.ts';

export interface ImageRepositoryDeps {
  /** Opens one unit of work: a lease that holds what is stored until the session is disposed. */
  readonly openSession: (call: OriginCall) => Promise<StoreSession>;
  readonly registry: RegistryDeps;
  /** Compressed bytes of all layers of one image. Default 50 GiB. */
  readonly maxImageBytes?: number;
  /** Told when cleaning up after a failure fails too; the first failure is what is thrown. */
  readonly onCleanupFault: (step: string, reason: unknown) => void;
}

export interface ImageAcquirer {
  /**
   * Resolves the source and stores what is missing. On failure the session ends: no record was
   * made, and its lease no longer holds what was stored. Throws the codes of `source.*`,
   * `image.*`, `archive.*`, `runtime.*` and `build.cancelled`.
   */
  acquire(source: ImageSource, options: AcquireOptions): Promise<AcquiredImage>;
}

const DEFAULT_MAX_IMAGE_BYTES = 50 * 1024 ** 3;

/** Images by name or file, in containerd's store. One instance serves many builds at once. */
export function createImageRepository(deps: ImageRepositoryDeps): ImageAcquirer {
  const flights = new KeyedMutex();
  return {
    async acquire(source, options) {
      const call = { signal: options.signal };
      const name = source.kind === 'registry' ? parseReference(source.reference) : undefined;
      const session = await deps.openSession(call);
      await using scope = new Scope(deps.onCleanupFault);
      scope.defer('end the store session', async () => session[Symbol.asyncDispose]());
      const work: Acquisition = { deps, flights, session, options };
      const image = toAcquired(await acquireFrom(source, name, work), session);
      scope.keep();
      return image;
    },
  };
}

interface Acquisition {
  readonly deps: ImageRepositoryDeps;
  readonly flights: KeyedMutex;
  readonly session: StoreSession;
  readonly options: AcquireOptions;
}

interface Found {
  readonly reference: string;
  readonly image: SelectedImage;
}

async function acquireFrom(
  source: ImageSource,
  name: ImageReference | undefined,
  work: Acquisition,
): Promise<Found> {
  const { pullPolicy, signal } = work.options;
  if (name !== undefined && pullPolicy !== 'always') {
    const stored = await findStored(formatReference(name), work);
    if (stored !== undefined) return stored;
    if (pullPolicy === 'never') {
      throw new BuilderdError(
        'source.not_found',
        `Cannot use ${formatReference(name)}: it is not stored in full, and the pull policy is never`,
      );
    }
  }
  await using origin = await openOrigin(source, name, work.deps, { signal });
  return await pull(origin, name, work);
}

function openOrigin(
  source: ImageSource,
  name: ImageReference | undefined,
  deps: ImageRepositoryDeps,
  call: OriginCall,
): Promise<ImageOrigin> | ImageOrigin {
  if (name !== undefined) return openRegistryOrigin(deps.registry, name, call);
  switch (source.kind) {
    case 'oci-layout':
      return openLayoutOrigin(source.path, source.tag);
    case 'oci-archive':
      return openOciArchive(source.path, source.tag, call);
    case 'docker-archive':
      return openDockerArchive(source.path, source.tag, call);
    case 'registry':
      return openRegistryOrigin(deps.registry, parseReference(source.reference), call);
  }
}

async function pull(
  origin: ImageOrigin,
  name: ImageReference | undefined,
  { deps, flights, session, options }: Acquisition,
): Promise<Found> {
  const { onProgress, platform, signal } = options;
  const call = { signal };
  onProgress({ kind: 'phase', phase: 'resolve', state: 'started', detail: origin.reference });
  const target = await origin.resolve(call);
  const image = await selectManifest(target, platform, {
    document: (descriptor) => origin.document(descriptor, call),
    config: (descriptor) => readConfig(descriptor, origin, call),
  });
  onProgress({ kind: 'phase', phase: 'resolve', state: 'done', detail: target.digest });
  onProgress({ kind: 'phase', phase: 'pull', state: 'started' });
  await storeImage(
    image,
    {
      blobs: session.blobs,
      origin,
      flights,
      onProgress,
      maxImageBytes: deps.maxImageBytes ?? DEFAULT_MAX_IMAGE_BYTES,
    },
    call,
  );
  // Local files get no record: it would keep their blobs after the build that read them.
  if (name !== undefined) {
    await session.images.put({ name: formatReference(name), target }, call);
  }
  onProgress({ kind: 'phase', phase: 'pull', state: 'done' });
  return { reference: origin.reference, image };
}

async function readConfig(
  descriptor: Descriptor,
  origin: ImageOrigin,
  call: OriginCall,
): Promise<Buffer> {
  requireDocumentSize(descriptor, 'the image config');
  const bytes = await collectBytes(origin.blob(descriptor, 0, call));
  requireDigest(descriptor.digest, bytes, 'the image config');
  return bytes;
}

/** The image as a record and the store have it, without asking anybody; undefined unless whole. */
async function findStored(
  name: string,
  { session, options }: Acquisition,
): Promise<Found | undefined> {
  const call = { signal: options.signal };
  const record = await session.images.get(name, call);
  if (record === undefined) return undefined;
  const read = async (descriptor: Descriptor): Promise<Buffer> => {
    if (!(await isStored(session.blobs, descriptor, call))) throw new MissingBlob();
    return session.blobs.read(descriptor, MAX_DOCUMENT_BYTES, call);
  };
  try {
    const image = await selectManifest(record.target, options.platform, {
      document: read,
      config: read,
    });
    for (const layer of image.manifest.document.layers) {
      if (!(await isStored(session.blobs, layer, call))) return undefined;
      options.onProgress({
        kind: 'bytes',
        phase: 'pull',
        id: layer.digest,
        doneBytes: layer.size,
        totalBytes: layer.size,
        state: 'reused',
      });
    }
    await session.images.touch(name, call);
    return { reference: name, image };
  } catch (reason) {
    if (reason instanceof MissingBlob) return undefined;
    // The registry may have the platform under the same name by now.
    const mayPull = options.pullPolicy === 'missing';
    if (mayPull && reason instanceof BuilderdError && reason.code === 'image.platform_mismatch') {
      return undefined;
    }
    throw reason;
  }
}

/** Ends a walk through the store early; never leaves this file. */
class MissingBlob extends Error {}

async function isStored(
  blobs: BlobStore,
  descriptor: Descriptor,
  call: OriginCall,
): Promise<boolean> {
  return (await blobs.stat(descriptor.digest, call))?.size === descriptor.size;
}

function toAcquired({ reference, image }: Found, session: StoreSession): AcquiredImage {
  const { manifest, config } = image;
  const [target = manifest] = image.path;
  return {
    reference,
    target: plain(target.descriptor),
    manifest: plain(manifest.descriptor),
    configDescriptor: manifest.document.config,
    config: image.configBytes,
    platform: config.platform,
    layers: manifest.document.layers.map((layer, index) => {
      const diffId = config.diffIds[index];
      if (diffId === undefined)
        throw new BuilderdError('internal', 'Cannot use the image: a diff_id is missing');
      return { ...layer, diffId, open: (signal) => session.blobs.open(layer, { signal }) };
    }),
    [Symbol.asyncDispose]: async () => session[Symbol.asyncDispose](),
  };
}

function plain({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}
