import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { BlobRange } from './artifact-store.ts';
import type { DurableIo } from './durable-io.ts';
import type { PieceSource } from './piece-stream.ts';
import { corrupt, readFault } from './store-faults.ts';

/** A stored copy as it lies there, plain or encrypted. */
export interface StoredCopy {
  readonly storedBytes: number;
  /** The stored bytes of a range that lies inside, all of them or a fault; closing closes the copy. */
  read(range: BlobRange, how?: ReadManner): PieceSource;
  close(): Promise<void>;
}

export interface ReadManner {
  /** How much is wanted at a time; a hint. */
  readonly chunkBytes?: number;
  /** The caller is done with a piece when it asks for the one after the next: memory is used again. */
  readonly reuse?: boolean;
}

const CHUNK = 256 * 1024;

/** A copy in an open file. */
export function fileCopy(io: DurableIo, handle: FileHandle, storedBytes: number): StoredCopy {
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= handle.close();
    return closing;
  };
  return {
    storedBytes,
    close,
    read({ start, end }, { chunkBytes = CHUNK, reuse = false } = {}) {
      const memory = reuse ? alternating(Math.min(chunkBytes, end + 1 - start)) : undefined;
      let at = start;
      return {
        close,
        async next() {
          if (at > end) return undefined;
          const length = Math.min(chunkBytes, end + 1 - at);
          const chunk = memory?.(length) ?? Buffer.allocUnsafe(length);
          const got = await io.read(handle, chunk, length, at).catch((reason: unknown) => {
            throw readFault(reason);
          });
          if (got !== length) throw corrupt('its file is shorter than it was');
          at += length;
          return chunk;
        },
      };
    },
  };
}

/** Two buffers in turn: one is filled while the other is still in use. */
export function alternating(capacity: number): (length: number) => Buffer {
  let current = Buffer.allocUnsafeSlow(Math.max(0, capacity));
  let other = Buffer.allocUnsafeSlow(Math.max(0, capacity));
  return (length) => {
    [current, other] = [other, current];
    return current.subarray(0, length);
  };
}

/** Holds the last piece back until all of them have been hashed and found right. */
export function verified(source: PieceSource, hex: string): PieceSource {
  const hash = createHash('sha256');
  let held: Buffer | undefined;
  let isDone = false;
  return {
    close: () => source.close(),
    async next() {
      if (isDone) return undefined;
      held ??= await source.next();
      if (held === undefined) {
        isDone = true;
        checkDigest(hash.digest('hex'), hex);
        return undefined;
      }
      hash.update(held);
      const piece = held;
      held = await source.next();
      if (held === undefined) {
        isDone = true;
        checkDigest(hash.digest('hex'), hex);
      }
      return piece;
    },
  };
}

function checkDigest(found: string, wanted: string): void {
  if (found !== wanted)
    throw corrupt(`its bytes hash to ${found.slice(0, 12)}…, not to its digest`);
}
