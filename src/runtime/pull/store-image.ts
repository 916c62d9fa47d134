import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import type { ProgressListener } from '../../core/progress.ts';
import { formatBytes } from '../../core/units.ts';
import type { BlobStore } from '../blob-store.ts';
import { gcLabels } from './gc-labels.ts';
import type { ImageOrigin, OriginCall } from './image-origin.ts';
import type { KeyedMutex } from './keyed-mutex.ts';
import { runLimited } from './run-limited.ts';
import type { SelectedImage } from './select-manifest.ts';

export interface StoreImageOptions {
  readonly blobs: BlobStore;
  readonly origin: ImageOrigin;
  readonly flights: KeyedMutex;
  readonly onProgress: ProgressListener;
  readonly maxImageBytes: number;
}

const PARALLEL_BLOBS = 4;

/** Brings every blob of the image into the store: layers largest first, then config, manifest, index. */
export async function storeImage(
  image: SelectedImage,
  options: StoreImageOptions,
  call: OriginCall,
): Promise<void> {
  const layers = uniqueLayers(image.manifest.document.layers);
  const total = layers.reduce((sum, each) => sum + each.size, 0);
  if (total > options.maxImageBytes) {
    throw new BuilderdError(
      'source.too_large',
      `Cannot pull the image: its layers have ${formatBytes(total)}, the limit is ${formatBytes(options.maxImageBytes)}`,
    );
  }
  const largestFirst = layers.toSorted((a, b) => b.size - a.size);
  await runLimited(largestFirst, PARALLEL_BLOBS, call, (layer, each) =>
    storeBlob(layer, options, each),
  );
  const config = image.manifest.document.config;
  await options.blobs.ingest(config, from(image.configBytes), {
    ...call,
    labels: options.origin.labels,
  });
  for (const { descriptor, bytes, document } of image.path.toReversed()) {
    const labels = { ...options.origin.labels, ...gcLabels(document) };
    await options.blobs.ingest(descriptor, from(bytes), { ...call, labels });
  }
}

async function storeBlob(
  layer: Descriptor,
  { blobs, origin, flights, onProgress }: StoreImageOptions,
  call: OriginCall,
): Promise<void> {
  const report = (doneBytes: number, state: 'running' | 'done' | 'reused'): void =>
    onProgress({
      kind: 'bytes',
      phase: 'pull',
      id: layer.digest,
      doneBytes,
      totalBytes: layer.size,
      state,
    });
  // One transfer of a blob at a time in this process: whoever waited finds it stored.
  await flights.run(layer.digest, call, async () => {
    const stored = await blobs.stat(layer.digest, call);
    if (stored?.size === layer.size) return report(layer.size, 'reused');
    report(0, 'running');
    let asked = false;
    const fetch = (offset: number): AsyncIterable<Buffer> => {
      asked = true;
      return origin.blob(layer, offset, call);
    };
    await blobs.ingest(layer, fetch, {
      ...call,
      labels: origin.labels,
      onBytes: (doneBytes) => report(doneBytes, 'running'),
    });
    if (!asked) await requireAccess(layer, origin, call);
    report(layer.size, 'done');
  });
}

/**
 * A daemon that shares content between namespaces gives a blob to whoever knows its digest. Its
 * bytes are used only once the source has shown that it would give them to this caller too: a
 * manifest of the caller's own may name anybody's layer. Throws what the source throws.
 */
async function requireAccess(
  layer: Descriptor,
  origin: ImageOrigin,
  call: OriginCall,
): Promise<void> {
  for await (const _ of origin.blob(layer, Math.max(0, layer.size - 1), call)) break;
}

/** A layer may be listed twice; one digest has one size. */
function uniqueLayers(layers: readonly Descriptor[]): readonly Descriptor[] {
  const byDigest = new Map<string, Descriptor>();
  for (const layer of layers) {
    const known = byDigest.get(layer.digest);
    if (known !== undefined && known.size !== layer.size) {
      throw new BuilderdError(
        'source.invalid',
        `Cannot use the image manifest: it gives ${layer.digest} two sizes`,
      );
    }
    byDigest.set(layer.digest, known ?? layer);
  }
  return [...byDigest.values()];
}

function from(bytes: Buffer): (offset: number) => AsyncIterable<Buffer> {
  return async function* (offset) {
    yield bytes.subarray(offset);
  };
}
