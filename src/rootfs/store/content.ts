import type { OpenFile } from '../../core/open-file.ts';
import type { Addon } from '../../../native/addon.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Inode } from '../tree.ts';
import { BLOCK_SIZE } from './block-file.ts';
import { PIECE, PieceList } from './piece-writer.ts';

/**
 * Calls `onData(fileOffset, length, storeOffset)` and `onHole(fileOffset, length)` for the range
 * [start, end) of a file, in order and without gaps.
 */
export function eachRange(
  inode: Inode,
  start: number,
  end: number,
  onData: (at: number, length: number, storeOffset: number) => void,
  onHole: (at: number, length: number) => void,
): void {
  const { extents } = inode;
  let at = start;
  for (let i = firstExtent(extents, start); i < extents.length && at < end; i += PIECE) {
    const from = (extents[i] ?? 0) * BLOCK_SIZE;
    const to = Math.min(from + (extents[i + 2] ?? 0) * BLOCK_SIZE, end);
    if (from > at) {
      onHole(at, Math.min(from, end) - at);
      at = Math.min(from, end);
    }
    if (to <= at) continue;
    onData(at, to - at, (extents[i + 1] ?? 0) * BLOCK_SIZE + at - from);
    at = to;
  }
  if (at < end) onHole(at, end - at);
}

/** Index of the first extent that ends after `start`; files may have thousands. */
function firstExtent(extents: readonly number[], start: number): number {
  let low = 0;
  let high = extents.length / PIECE;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const end = ((extents[middle * PIECE] ?? 0) + (extents[middle * PIECE + 2] ?? 0)) * BLOCK_SIZE;
    if (end > start) high = middle;
    else low = middle + 1;
  }
  return low * PIECE;
}

/** Reads all pieces into `target`, in order. */
export async function readPieces(
  addon: Addon | undefined,
  handle: OpenFile,
  target: Buffer,
  list: PieceList,
): Promise<void> {
  if (list.count === 0) return;
  if (addon !== undefined) {
    await addon.readPieces(handle.fd, target, list.pieces, list.count);
    return;
  }
  const pieces = list.pieces.slice(0, list.count * PIECE);
  for (let i = 0; i < pieces.length; i += PIECE) {
    const [at = 0, into = 0, length = 0] = pieces.subarray(i, i + PIECE);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await handle.read(target, into + done, length - done, at + done);
      if (bytesRead === 0)
        throw new BuilderdError(
          'storage.failed',
          'Cannot read file content: the block file is too short',
        );
      done += bytesRead;
    }
  }
}

/** The whole content of a small file of the tree. The caller has checked its size. */
export async function readContent(
  addon: Addon | undefined,
  handle: OpenFile,
  inode: Inode,
): Promise<Buffer> {
  const content = Buffer.alloc(inode.size);
  const list = new PieceList();
  eachRange(
    inode,
    0,
    inode.size,
    (at, length, storeOffset) => list.add(storeOffset, at, length),
    () => {},
  );
  await readPieces(addon, handle, content, list);
  return content;
}
