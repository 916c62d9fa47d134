import type { OpenFile } from '../../core/open-file.ts';
import type { Addon } from '../../../native/addon.ts';
import { BLOCK_SIZE } from './block-file.ts';

/** Numbers in a piece: file offset, buffer offset, length. */
export const PIECE = 3;

/** Pieces of one buffer on their way to many places of a file. */
export class PieceList {
  pieces = new Float64Array(1024 * PIECE);
  count = 0;
  bytes = 0;

  add(fileOffset: number, bufferOffset: number, length: number): void {
    let at = this.count * PIECE;
    if (at + PIECE > this.pieces.length) {
      const larger = new Float64Array(this.pieces.length * 2);
      larger.set(this.pieces);
      this.pieces = larger;
    }
    this.pieces[at++] = fileOffset;
    this.pieces[at++] = bufferOffset;
    this.pieces[at] = length;
    this.count++;
    this.bytes += length;
  }

  clear(): void {
    this.count = 0;
    this.bytes = 0;
  }
}

/** Writes all pieces, in order; one that ends inside a block is padded with zeros to its end. */
export async function writePieces(
  addon: Addon | undefined,
  handle: OpenFile,
  source: Buffer,
  list: PieceList,
): Promise<void> {
  if (list.count === 0) return;
  if (addon !== undefined) {
    await addon.writePieces(handle.fd, source, list.pieces, list.count);
    return;
  }
  const pieces = list.pieces.slice(0, list.count * PIECE);
  for (let i = 0; i < pieces.length; i += PIECE) {
    const [at = 0, from = 0, length = 0] = pieces.subarray(i, i + PIECE);
    await writeAll(handle, source.subarray(from, from + length), at);
    const pad = (BLOCK_SIZE - ((at + length) % BLOCK_SIZE)) % BLOCK_SIZE;
    if (pad > 0) await writeAll(handle, ZEROS.subarray(0, pad), at + length);
  }
}

const ZEROS = Buffer.alloc(BLOCK_SIZE);

/** A nearly full disk takes a part of a write without a fault; the next one says ENOSPC. */
export async function writeAll(handle: OpenFile, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
