import type { BlobRange } from './artifact-store.ts';

/**
 * The arithmetic of an age v1 payload: 64 KiB pieces of plain bytes, each stored with a tag of 16.
 * The last piece is marked as such in its nonce; it is empty only when there are no bytes at all.
 */
export const PLAIN_PIECE = 64 * 1024;
export const TAG_BYTES = 16;
export const STORED_PIECE = PLAIN_PIECE + TAG_BYTES;

export function pieceCount(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / PLAIN_PIECE));
}

/** What `sizeBytes` plain bytes take, without the header. */
export function payloadBytes(sizeBytes: number): number {
  return sizeBytes + TAG_BYTES * pieceCount(sizeBytes);
}

/** Counter, big-endian in 11 bytes, then 1 for the last piece. */
export function pieceNonce(index: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(index, 5, 6);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

/** The pieces that hold a range of plain bytes, and what to cut off at both ends. */
export interface PieceSpan {
  readonly first: number;
  readonly last: number;
  /** Position in the payload, both inclusive. */
  readonly stored: BlobRange;
  /** Plain bytes before the range in the first piece. */
  readonly skip: number;
  readonly length: number;
}

/** For a range inside `sizeBytes`; `{start: 0, end: -1}` is all of an empty artifact. */
export function spanOf({ start, end }: BlobRange, sizeBytes: number): PieceSpan {
  const first = Math.floor(start / PLAIN_PIECE);
  const last = Math.max(first, Math.floor(end / PLAIN_PIECE));
  return {
    first,
    last,
    stored: {
      start: first * STORED_PIECE,
      end: Math.min((last + 1) * STORED_PIECE, payloadBytes(sizeBytes)) - 1,
    },
    skip: start - first * PLAIN_PIECE,
    length: end + 1 - start,
  };
}
