import { addAbortSignal, Readable } from 'node:stream';

/** Bytes that are fetched when someone wants them. */
export interface PieceSource {
  /** The next bytes, never empty, or undefined at the end. One call at a time. */
  next(): Promise<Buffer | undefined>;
  /** Idempotent; also while a `next` is under way. */
  close(): Promise<void>;
}

/** A stream over a source: one piece is under way at a time, so that a slow reader holds little. */
export function pieceStream(source: PieceSource, signal: AbortSignal): Readable {
  const stream = new Readable({
    highWaterMark: 256 * 1024,
    read() {
      source.next().then(
        (piece) => this.push(piece ?? null),
        (reason: unknown) =>
          this.destroy(reason instanceof Error ? reason : new Error(String(reason))),
      );
    },
    destroy(fault, done) {
      source.close().then(
        () => done(fault),
        (reason: unknown) =>
          done(fault ?? (reason instanceof Error ? reason : new Error(String(reason)))),
      );
    },
  });
  return addAbortSignal(signal, stream);
}
