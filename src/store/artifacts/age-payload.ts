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
import { corrupt } from './store-faults.ts';

const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: TAG_BYTES };

/** The payload of `sizeBytes` plain bytes. A source that gives more or fewer is a fault. */
export function sealPayload(plain: PieceSource, sizeBytes: number, key: Buffer): PieceSource {
  const pieces = inPieces(plain, PLAIN_PIECE);
  const last = pieceCount(sizeBytes) - 1;
  let index = 0;
  let done = 0;
  return {
    close: () => plain.close(),
    async next() {
      if (index > last) return undefined;
      const batch = await pieces.next();
      const given = batch ?? (sizeBytes === 0 ? [Buffer.alloc(0)] : []);
      done += given.reduce((sum, piece) => sum + piece.length, 0);
      const isComplete = done === sizeBytes;
      if (given.length === 0 || done > sizeBytes || (isComplete && index + given.length <= last)) {
        throw corrupt('it has another size than was promised');
      }
      const sealed: Buffer[] = [];
      for (const piece of given) {
        const cipher = createCipheriv(CIPHER, key, pieceNonce(index, index === last), OPTIONS);
        sealed.push(cipher.update(piece), cipher.final(), cipher.getAuthTag());
        index += 1;
      }
      return Buffer.concat(sealed);
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
  let index = span.first;
  let skip = span.skip;
  let left = span.length;
  return {
    close: () => stored.close(),
    async next() {
      if (index > span.last) return undefined;
      const batch = await pieces.next();
      if (batch === undefined) throw corrupt('its file ends too early');
      const opened: Buffer[] = [];
      for (const piece of batch) {
        opened.push(openPiece(piece, key, index, index === veryLast));
        index += 1;
      }
      const joined = opened.length === 1 && opened[0] ? opened[0] : Buffer.concat(opened);
      const plain = joined.subarray(skip, skip + left);
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
      const whole = isEnded ? bytes.length : bytes.length - (bytes.length % length);
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
