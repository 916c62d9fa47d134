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
  read(range: BlobRange): PieceSource;
  close(): Promise<void>;
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
    read({ start, end }) {
      let at = start;
      return {
        close,
        async next() {
          if (at > end) return undefined;
          const length = Math.min(CHUNK, end + 1 - at);
          const chunk = Buffer.allocUnsafe(length);
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
