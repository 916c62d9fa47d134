import { BuilderdError } from '../../core/errors.ts';
import type { BlockRun } from '../store/block-file.ts';
import type { Inode, MergedTree, TreeNode } from '../tree.ts';
import { BLOCKS_PER_GROUP, reservedAtGroupStart } from './geometry.ts';

/**
 * Which blocks below `end` the tree's files hold, found from the tree itself and not from what
 * the allocator believes: a block that two files claim would be a damaged disk, so it is a fault
 * here, and one that nobody claims is free, whoever forgot it.
 */
export function freeBlocksOf(tree: MergedTree, end: number): BlockRun[] {
  const used = new Uint8Array(Math.ceil(end / 8));
  for (let group = 0; group * BLOCKS_PER_GROUP < end; group += 1) {
    const front = group * BLOCKS_PER_GROUP;
    claim(used, front, Math.min(end, front + reservedAtGroupStart(group)));
  }
  const seen = new Set<Inode>();
  const pending: TreeNode[] = [tree.root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    const { extents } = node.inode;
    if (extents.length > 0 && !seen.has(node.inode)) {
      seen.add(node.inode);
      for (let at = 0; at < extents.length; at += 3) {
        const start = extents[at + 1] ?? -1;
        const stop = start + (extents[at + 2] ?? 0);
        if (start < 0 || stop > end) throw notItsOwn(start, stop);
        claim(used, start, stop);
      }
    }
    for (const child of node.children?.values() ?? []) pending.push(child);
  }
  return freeRuns(used, end);
}

/** Sets bits [start, stop), each of which must be clear. */
function claim(used: Uint8Array, start: number, stop: number): void {
  for (let block = start; block < stop; ) {
    const index = block >>> 3;
    const isWhole = (block & 7) === 0 && stop - block >= 8;
    const mask = isWhole ? 0xff : 1 << (block & 7);
    const before = used[index] ?? 0;
    if ((before & mask) !== 0) throw notItsOwn(start, stop);
    used[index] = before | mask;
    block += isWhole ? 8 : 1;
  }
}

function freeRuns(used: Uint8Array, end: number): BlockRun[] {
  const runs: BlockRun[] = [];
  let start = -1;
  for (let block = 0; block < end; ) {
    const byte = used[block >>> 3] ?? 0;
    const isWhole = (block & 7) === 0 && end - block >= 8 && (byte === 0 || byte === 0xff);
    const isUsed = (byte & (1 << (block & 7))) !== 0;
    if (!isUsed && start < 0) start = block;
    if (isUsed && start >= 0) {
      runs.push({ start, count: block - start });
      start = -1;
    }
    block += isWhole ? 8 : 1;
  }
  if (start >= 0) runs.push({ start, count: end - start });
  return runs;
}

function notItsOwn(start: number, stop: number): BuilderdError {
  return new BuilderdError(
    'internal',
    `Cannot write the ext4 image: a file claims blocks ${start} to ${stop - 1}, not all its own`,
  );
}
