import { BuilderdError } from '../../core/errors.ts';
import { roomBeforeReserved, skipReserved } from '../store/block-allocator.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';
import {
  BLOCKS_PER_GROUP,
  DESCRIPTOR_AREA_BLOCKS,
  DESCRIPTORS_PER_BLOCK,
  reservedAtGroupStart,
} from './geometry.ts';
import { INODE_SIZE } from './inode.ts';
import type { Space } from './space.ts';

/** How large the disk becomes. */
export type SizePolicy =
  /** Exactly what the content needs, plus `extraBytes` of free space. */
  | { readonly kind: 'min'; readonly extraBytes: number }
  /** This many bytes; `artifact.too_small` when the content does not fit. */
  | { readonly kind: 'fixed'; readonly bytes: number };

/** Where everything that depends on the number of groups lies. */
export interface Layout {
  readonly blocks: number;
  readonly groups: number;
  readonly inodesPerGroup: number;
  /** First block of each, by group. */
  readonly blockBitmaps: readonly number[];
  readonly inodeBitmaps: readonly number[];
  readonly inodeTables: readonly number[];
  /** What is left after all of it. */
  readonly space: Space;
}

const INODES_PER_BLOCK = BLOCK_SIZE / INODE_SIZE;
/** An inode bitmap is one block. */
const MAX_INODES_PER_GROUP = 32768;
/**
 * A disk that grows gets as many inodes in each new group as the others have. Without a least
 * number, one with a few large files would stay short of inodes for ever; this costs 0.1 %.
 */
const MIN_INODES_PER_GROUP = 512;
/** One inode for every 16 KiB of free space, as mke2fs does. */
const FREE_BLOCKS_PER_INODE = 4;
/** Groups whose bitmaps and tables are kept together; superblock field log_groups_per_flex. */
export const GROUPS_PER_FLEX = 16;
/** One descriptor block stays reserved, so that the resize inode has something to hold. */
export const MAX_GROUPS = (DESCRIPTOR_AREA_BLOCKS - 1) * DESCRIPTORS_PER_BLOCK;

/** `space` is left as it was; the result holds its own. `inodes`: the reserved ones included. */
export function planLayout(space: Space, inodes: number, size: SizePolicy): Layout {
  if (size.kind === 'min') {
    return smallest(space, inodes, Math.ceil(size.extraBytes / BLOCK_SIZE));
  }
  const least = smallest(space, inodes, 0);
  const wanted = Math.floor(size.bytes / BLOCK_SIZE);
  if (wanted < least.blocks) throw tooSmall(least.blocks, size.bytes);
  const blocks = dropTinyGroup(wanted, least);
  // The descriptor copies of the groups added take their part; what is left decides on inodes.
  for (let spare = (blocks - least.blocks) / FREE_BLOCKS_PER_INODE; ; spare = spare / 2) {
    const wish = inodes + Math.floor(spare);
    const layout = place(space, groupsOf(blocks), wish, blocks);
    if (layout !== undefined) return layout;
    if (spare < 1) throw tooSmall(least.blocks + BLOCKS_PER_GROUP, size.bytes);
  }
}

/** The layout with the fewest blocks that leaves `extra` blocks free behind the content. */
function smallest(space: Space, inodes: number, extra: number): Layout {
  const wish = inodes + Math.floor(extra / FREE_BLOCKS_PER_INODE);
  let groups = Math.max(groupsOf(space.end), Math.ceil(wish / MAX_INODES_PER_GROUP));
  for (;;) {
    checkGroups(groups);
    const layout = place(space, groups, wish);
    // Fewer groups than asked for would come out when their inodes alone need them: then the
    // last one is cut to what it must have.
    const least = (groups - 1) * BLOCKS_PER_GROUP + reservedAtGroupStart(groups - 1) + 1;
    const blocks = Math.max(endAfter(layout.space.end, extra), groups === 1 ? 0 : least);
    const needed = groupsOf(blocks);
    if (needed <= groups) return { ...layout, blocks };
    groups = needed;
  }
}

function place(space: Space, groups: number, inodes: number): Layout;
function place(space: Space, groups: number, inodes: number, blocks: number): Layout | undefined;
/** Puts tables and bitmaps behind the data; undefined when they do not end before `blocks`. */
function place(space: Space, groups: number, inodes: number, blocks?: number): Layout | undefined {
  const perGroup = Math.ceil(inodes / groups / INODES_PER_BLOCK) * INODES_PER_BLOCK;
  const inodesPerGroup = Math.min(Math.max(perGroup, MIN_INODES_PER_GROUP), MAX_INODES_PER_GROUP);
  const left = space.clone();
  const blockBitmaps: number[] = [];
  const inodeBitmaps: number[] = [];
  const inodeTables: number[] = [];
  for (let first = 0; first < groups; first += GROUPS_PER_FLEX) {
    const count = Math.min(GROUPS_PER_FLEX, groups - first);
    // Tables first: what they leave of a hole, bitmaps can still use.
    for (let at = 0; at < count; at += 1) {
      inodeTables.push(left.takeRun(inodesPerGroup / INODES_PER_BLOCK));
    }
    for (let at = 0; at < count; at += 1) blockBitmaps.push(left.takeOne());
    for (let at = 0; at < count; at += 1) inodeBitmaps.push(left.takeOne());
    if (blocks !== undefined && left.end > blocks) return undefined;
  }
  left.trim();
  return {
    blocks: blocks ?? left.end,
    groups,
    inodesPerGroup,
    blockBitmaps,
    inodeBitmaps,
    inodeTables,
    space: left,
  };
}

/** mke2fs drops a last group that is hardly more than its own overhead; so do we. */
function dropTinyGroup(blocks: number, least: Layout): number {
  const rest = blocks % BLOCKS_PER_GROUP;
  const group = Math.floor(blocks / BLOCKS_PER_GROUP);
  const overhead = reservedAtGroupStart(group) + least.inodesPerGroup / INODES_PER_BLOCK + 2 + 50;
  const kept = rest < overhead && group > 0 ? blocks - rest : blocks;
  checkGroups(groupsOf(kept));
  return Math.max(kept, least.blocks);
}

/** Where a disk ends that has `extra` blocks, reserved ones not counted, after block `end`. */
function endAfter(end: number, extra: number): number {
  let at = end;
  for (let left = extra; left > 0; ) {
    const start = skipReserved(at);
    const piece = Math.min(left, roomBeforeReserved(start));
    at = start + piece;
    left -= piece;
  }
  return at;
}

function groupsOf(blocks: number): number {
  return Math.ceil(blocks / BLOCKS_PER_GROUP);
}

function checkGroups(groups: number): void {
  if (groups <= MAX_GROUPS) return;
  throw new BuilderdError(
    'artifact.unrepresentable',
    `Cannot make an ext4 disk of ${groups} block groups: the limit is ${MAX_GROUPS} (1016 GiB)`,
  );
}

function tooSmall(blocks: number, bytes: number): BuilderdError {
  const neededBytes = blocks * BLOCK_SIZE;
  return new BuilderdError(
    'artifact.too_small',
    `Cannot fit the content into a disk of ${bytes} bytes: it needs ${neededBytes} bytes`,
    { details: { neededBytes, sizeBytes: bytes } },
  );
}
