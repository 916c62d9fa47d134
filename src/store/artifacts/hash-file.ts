import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { Addon } from '../../../native/addon.ts';
import type { Digest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { DurableIo } from './durable-io.ts';
import type { PieceSource } from './piece-stream.ts';

const CHUNK = 4 << 20;

export interface HashOptions {
  readonly io: DurableIo;
  readonly addon: Addon | undefined;
  readonly signal: AbortSignal;
  /** Called after each chunk: a scrub takes its time here. */
  readonly onChunk?: (length: number) => Promise<void>;
}

/**
 * SHA-256 of the first `sizeBytes` bytes, by our own reading. Reads one chunk while the addon hashes
 * the one before on another thread. Nothing is under way any more when this returns or throws.
 */
export async function hashFile(
  handle: FileHandle,
  sizeBytes: number,
  { io, addon, signal, onChunk }: HashOptions,
): Promise<Digest> {
  const hasher = openHasher(addon);
  const chunks = [Buffer.allocUnsafe(CHUNK), Buffer.allocUnsafe(CHUNK)] as const;
  let hashing: Promise<unknown> = Promise.resolve();
  try {
    for (let at = 0, turn = 0; at < sizeBytes; turn ^= 1) {
      throwIfAborted(signal, 'hash the artifact');
      const chunk = turn === 0 ? chunks[0] : chunks[1];
      const length = Math.min(CHUNK, sizeBytes - at);
      const [got] = await Promise.all([io.read(handle, chunk, length, at), hashing]);
      if (got !== length) {
        throw new BuilderdError('artifact.corrupt', 'Cannot hash the artifact: it became shorter');
      }
      hashing = hasher.update(chunk, length);
      at += length;
      await onChunk?.(length);
    }
  } finally {
    // The addon still reads a chunk: its memory must not go first.
    await hashing;
  }
  return `sha256:${hasher.digest()}` as Digest;
}

export interface Hasher {
  /** `bytes` must not change until this settles. One at a time. */
  update(bytes: Buffer, length: number): Promise<unknown>;
  /** Hex. */
  digest(): string;
}

export function openHasher(addon: Addon | undefined): Hasher {
  if (addon !== undefined) {
    const handle = addon.hasherOpen();
    return {
      update: (bytes, length) => addon.hasherUpdate(handle, bytes, length),
      digest: () => addon.hasherDigest(handle).toString('hex'),
    };
  }
  const hash = createHash('sha256');
  return {
    update: async (bytes, length) => {
      hash.update(bytes.subarray(0, length));
    },
    digest: () => hash.digest('hex'),
  };
}

/** Passes pieces on while the addon hashes them on another thread. */
export function hashing(
  source: PieceSource,
  addon: Addon | undefined,
): PieceSource & { digest(): Promise<Digest> } {
  const hasher = openHasher(addon);
  let updating: Promise<unknown> = Promise.resolve();
  return {
    async close() {
      // The addon still reads a piece: its memory must not go first.
      await updating;
      await source.close();
    },
    async next() {
      const piece = await source.next();
      await updating;
      if (piece !== undefined) updating = hasher.update(piece, piece.length);
      return piece;
    },
    async digest() {
      await updating;
      return `sha256:${hasher.digest()}` as Digest;
    },
  };
}
