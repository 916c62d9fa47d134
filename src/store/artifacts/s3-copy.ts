import { BuilderdError } from '../../core/errors.ts';
import { DOING, ObjectWindow } from './object-window.ts';
import type { PieceSource } from './piece-stream.ts';
import type { S3Client } from './s3-client.ts';
import type { StoredCopy } from './stored-copy.ts';

/**
 * What is fetched at a time, and held for one reader at most. It comes in at the store's pace and
 * waits here: however slow a reader is, it keeps no connection, of which there are few.
 */
export const WINDOW_BYTES = 4 << 20;

/** A stored object of known size, fetched in windows. */
export function objectCopy(
  client: S3Client,
  key: string,
  storedBytes: number,
  signal: AbortSignal,
): StoredCopy {
  const closing = new AbortController();
  const either = AbortSignal.any([signal, closing.signal]);
  const open = new Set<ObjectWindow>();
  const close = async (): Promise<void> => {
    closing.abort(new BuilderdError('build.cancelled', `Cannot ${DOING}: it was closed`));
    await Promise.all([...open].map(({ filled }) => filled));
  };
  return {
    storedBytes,
    close,
    read({ start, end }): PieceSource {
      let at = start;
      let current: ObjectWindow | undefined;
      return {
        close,
        async next() {
          for (;;) {
            const piece = await current?.next();
            if (piece !== undefined) return piece;
            if (current !== undefined) open.delete(current);
            current = undefined;
            if (at > end) return undefined;
            const last = Math.min(end, at + WINDOW_BYTES - 1);
            const range = { start: at, end: last, storedBytes, signal: either };
            current = new ObjectWindow(client, key, range);
            open.add(current);
            at = last + 1;
          }
        },
      };
    },
  };
}
