import { createCipheriv, createDecipheriv } from 'node:crypto';
import {
  PLAIN_PIECE,
  pieceCount,
  pieceNonce,
  type PieceSpan,
  STORED_PIECE,
  TAG_BYTES,
} from './age-pieces.ts';
import type { PieceSource } from './piece-stream.ts';
import { alternating } from './stored-copy.ts';
import { corrupt } from './store-faults.ts';

const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: TAG_BYTES };

/** Pieces that are worked on at a time. */
const BATCH = 16;
/** How to read what is sealed or opened here. */
export const PLAIN_BATCH = { chunkBytes: BATCH * PLAIN_PIECE, reuse: true } as const;
export const STORED_BATCH = { chunkBytes: BATCH * STORED_PIECE, reuse: true } as const;

/**
 * The payload of `sizeBytes` plain bytes. A source that gives more or fewer is a fault. What is
 * given out is used again for the batch after the next.
 */
export function sealPayload(plain: PieceSource, sizeBytes: number, key: Buffer): PieceSource {
  const pieces = inPieces(plain, PLAIN_PIECE);
  const last = pieceCount(sizeBytes) - 1;
  const memory = alternating(Math.min(sizeBytes + TAG_BYTES * BATCH, BATCH * STORED_PIECE));
  let index = 0;
  let done = 0;
  return {
    close: () => plain.close(),
    async next() {
      if (index > last) return undefined;
      const batch = await pieces.next();
      const given = batch ?? (sizeBytes === 0 ? [Buffer.alloc(0)] : []);
      done += given.reduce((sum, piece) => sum + piece.length, 0);
      const isComplete = done === sizeBytes && (await pieces.next()) === undefined;
      if (given.length === 0 || isComplete !== index + given.length > last) {
        throw corrupt('it has another size than was promised');
      }
      const sealed = memory(given.reduce((sum, piece) => sum + piece.length + TAG_BYTES, 0));
      let at = 0;
      for (const piece of given) {
        const cipher = createCipheriv(CIPHER, key, pieceNonce(index, index === last), OPTIONS);
        at += cipher.update(piece).copy(sealed, at);
        cipher.final();
        at += cipher.getAuthTag().copy(sealed, at);
        index += 1;
      }
      return sealed;
    },
  };
}

/**
 * Plain bytes of a span, from its stored pieces. A piece that was changed, cut, moved or exchanged
 * does not authenticate, because key, number and lastness are bound to it: `artifact.corrupt`.
 */
export function openPayload(
  stored: PieceSource,
  span: PieceSpan,
  { key, sizeBytes }: { readonly key: Buffer; readonly sizeBytes: number },
): PieceSource {
  const pieces = inPieces(stored, STORED_PIECE);
  const veryLast = pieceCount(sizeBytes) - 1;
  let waiting: readonly Buffer[] = [];
  let index = span.first;
  let skip = span.skip;
  let left = span.length;
  return {
    close: () => stored.close(),
    async next() {
      if (index > span.last) return undefined;
      if (waiting.length === 0) waiting = (await pieces.next()) ?? [];
      const [piece, ...others] = waiting;
      if (piece === undefined) throw corrupt('its file ends too early');
      waiting = others;
      const plain = openPiece(piece, key, index, index === veryLast).subarray(skip, skip + left);
      index += 1;
      skip = 0;
      left -= plain.length;
      // Only an empty artifact has no bytes in its piece.
      return plain.length === 0 ? undefined : plain;
    },
  };
}

function openPiece(piece: Buffer, key: Buffer, index: number, isLast: boolean): Buffer {
  const end = piece.length - TAG_BYTES;
  if (end < 0) throw corrupt(`piece ${index} is cut off`);
  const decipher = createDecipheriv(CIPHER, key, pieceNonce(index, isLast), OPTIONS);
  decipher.setAuthTag(piece.subarray(end));
  try {
    const plain = decipher.update(piece.subarray(0, end));
    decipher.final();
    return plain;
  } catch (reason) {
    throw corrupt(`piece ${index} does not authenticate`, reason);
  }
}

/** Cuts a source into pieces of one length, the last one shorter; as many at once as it has. */
function inPieces(
  source: PieceSource,
  length: number,
): { next(): Promise<readonly Buffer[] | undefined> } {
  let carry: Buffer[] = [];
  let carried = 0;
  let isEnded = false;
  return {
    async next() {
      while (carried < length && !isEnded) {
        const chunk = await source.next();
        if (chunk === undefined) isEnded = true;
        else {
          carry.push(chunk);
          carried += chunk.length;
        }
      }
      if (carried === 0) return undefined;
      const [only] = carry;
      const bytes = carry.length === 1 && only ? only : Buffer.concat(carry);
      const available = isEnded ? bytes.length : bytes.length - (bytes.length % length);
      const whole = Math.min(available, BATCH * length);
      const pieces: Buffer[] = [];
      for (let at = 0; at < whole; at += length) {
        pieces.push(bytes.subarray(at, Math.min(at + length, whole)));
      }
      carry = whole < bytes.length ? [bytes.subarray(whole)] : [];
      carried = bytes.length - whole;
      return pieces;
    },
  };
}
