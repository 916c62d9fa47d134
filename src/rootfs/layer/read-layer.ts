import type { OpenFile } from '../../core/open-file.ts';
import type { Addon } from '../../../native/addon.ts';
import { type Digest, digestAlgorithm } from '../../core/digest.ts';
import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import type { Compression } from '../../core/oci.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { detectCompression } from './compression.ts';
import { openDigest, openDigestLike } from './digest-stream.ts';
import type { ConversionLimits, LayerSource } from './layer-source.ts';
import { openPlainStream, type PlainStream } from './plain-stream.ts';
import type { SlabPool } from './slab-pool.ts';

export interface ReadLayerOptions {
  readonly addon: Addon | undefined;
  readonly slabs: SlabPool;
  readonly limits: ConversionLimits;
  /** Plain bytes that earlier layers of the same build gave. */
  readonly plainBytesBefore: number;
  /** Gets each slab, synchronously; the promise says when the slab may be used again. */
  readonly onSlab: (slab: Buffer, length: number) => Promise<void>;
  readonly onBytes: (packedBytes: number) => void;
  readonly signal: AbortSignal;
}

export interface LayerFacts {
  readonly plainBytes: number;
  readonly compression: Compression;
}

/**
 * Reads one layer once: unpacks it, hashes packed and plain bytes on other threads, hands slabs
 * on. Throws `source.size_mismatch` and `source.digest_mismatch` (packed digest or diff ID), and
 * what the consumer throws; a damaged layer is told as a digest mismatch if it is one.
 */
export async function readLayer(
  layer: LayerSource,
  options: ReadLayerOptions,
): Promise<LayerFacts> {
  throwIfAborted(options.signal, `read layer ${layer.digest}`);
  await using handle = await layer.open(options.signal);
  const { size } = await handle.stat();
  if (size !== layer.size) {
    throw new BuilderdError(
      'source.size_mismatch',
      `Cannot use layer ${layer.digest}: it has ${size} bytes, its descriptor says ${layer.size}`,
    );
  }
  const compression = await detectCompression(handle);
  const stream = openPlainStream({ ...options, handle, compression, expected: layer.digest });
  try {
    const plainBytes = await pump(layer, stream, options);
    checkDigest(stream.digest(), layer.digest, `layer ${layer.digest}: its bytes`);
    return { plainBytes, compression };
  } catch (reason) {
    if (!isBuilderdError(reason) || !reason.code.startsWith('archive.')) throw reason;
    checkDigest(
      await hashPacked(handle, layer, options),
      layer.digest,
      `layer ${layer.digest}: its bytes`,
    );
    throw reason;
  }
}

interface Filled {
  readonly slab: Buffer;
  readonly length: number;
  readonly bytesIn: number;
  /** Kept here, not thrown: the one before it may still be waited for. */
  readonly fault?: { readonly reason: unknown };
}

/** Reads that are asked for ahead: unpacking never waits for this thread to come round. */
const FILLS_AHEAD = 2;

async function pump(
  layer: LayerSource,
  stream: PlainStream,
  options: ReadLayerOptions,
): Promise<number> {
  const { slabs } = options;
  const plainDigest = openDigestLike(options.addon, layer.diffId);
  let plainBytes = 0;
  const filling = Array.from({ length: FILLS_AHEAD }, () => startFill(stream, slabs));
  /** Jobs that still use a slab; the first fault among them is kept for the loop. */
  const running = new Set<Promise<void>>();
  let fault: Filled['fault'];
  try {
    for (let next = filling[0]; next !== undefined; next = filling[0]) {
      const { slab, length, bytesIn, fault: readFault } = await next;
      fault ??= readFault;
      if (fault !== undefined) throw fault.reason;
      throwIfAborted(options.signal, `read layer ${layer.digest}`);
      if (length === 0) break;
      plainBytes += length;
      checkBomb(layer, plainBytes, bytesIn, options);
      // Awaited above.
      void filling.shift();
      filling.push(startFill(stream, slabs));
      const hashed = plainDigest.update(slab, length);
      const job = useSlab(hashed, options.onSlab(slab, length), () => slabs.give(slab));
      running.add(job);
      job.then(
        () => running.delete(job),
        (reason: unknown) => {
          fault ??= { reason };
          running.delete(job);
        },
      );
      options.onBytes(bytesIn);
    }
  } finally {
    // Jobs first: they give back the slabs that the last fills wait for.
    await Promise.allSettled(running);
    for (const { slab } of await Promise.all(filling)) slabs.give(slab);
  }
  if (fault !== undefined) throw fault.reason;
  checkDigest(plainDigest.digest(), layer.diffId, `layer ${layer.digest}: its unpacked bytes`);
  return plainBytes;
}

async function startFill(stream: PlainStream, slabs: SlabPool): Promise<Filled> {
  const slab = await slabs.take();
  try {
    return { slab, ...(await stream.fill(slab, slabs.dataBytes)) };
  } catch (reason) {
    return { slab, length: 0, bytesIn: 0, fault: { reason } };
  }
}

async function useSlab(
  hashed: Promise<void>,
  used: Promise<void>,
  done: () => void,
): Promise<void> {
  const results = await Promise.allSettled([hashed, used]);
  done();
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

function checkBomb(
  layer: LayerSource,
  plainBytes: number,
  packedBytes: number,
  options: ReadLayerOptions,
): void {
  const { limits, plainBytesBefore } = options;
  if (plainBytesBefore + plainBytes > limits.maxPlainBytes) {
    throw new BuilderdError(
      'archive.bomb',
      `Cannot unpack layer ${layer.digest}: the image unpacks to more than ${limits.maxPlainBytes} bytes`,
    );
  }
  if (plainBytes > limits.bombFreeBytes && plainBytes > packedBytes * limits.maxRatio) {
    throw new BuilderdError(
      'archive.bomb',
      `Cannot unpack layer ${layer.digest}: ${packedBytes} bytes became more than ${plainBytes}`,
    );
  }
}

function checkDigest(found: Digest, expected: Digest, what: string): void {
  if (found === expected) return;
  throw new BuilderdError(
    'source.digest_mismatch',
    `Cannot use ${what} hash to ${found}, not ${expected}`,
  );
}

async function hashPacked(
  handle: OpenFile,
  layer: LayerSource,
  { addon, slabs, signal }: ReadLayerOptions,
): Promise<Digest> {
  const digest = openDigest(addon, digestAlgorithm(layer.digest));
  const buffer = Buffer.allocUnsafe(slabs.dataBytes);
  for (let at = 0; at < layer.size; ) {
    throwIfAborted(signal, `read layer ${layer.digest}`);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) break;
    await digest.update(buffer, bytesRead);
    at += bytesRead;
  }
  return digest.digest();
}
