import { BLOCK_SIZE } from '../store/block-file.ts';
import type { BlockWriter } from './block-writer.ts';
import { BLOCKS_PER_GROUP, DESCRIPTOR_AREA_BLOCKS, nextSuperblockCopy } from './geometry.ts';
import { blockPointers, MODE, writeInode } from './inode.ts';

export const RESIZE_INODE = 7;
const POINTERS_IN_BLOCK = BLOCK_SIZE / 4;
const DOUBLE_INDIRECT = 13;

export interface ResizeInodeInput {
  readonly slot: Buffer;
  /** The block of pointers to the reserved descriptor blocks. */
  readonly doubleIndirect: number;
  readonly groups: number;
  /** Blocks of the descriptor table; the rest of the area is reserved. */
  readonly descriptorBlocks: number;
  readonly timestampSec: number;
}

/**
 * Inode 7 owns the reserved descriptor blocks: each one in group 0 is an indirect block that
 * points to its copies in the backup groups. Growing the disk takes them from here.
 */
export function writeResizeInode(input: ResizeInodeInput, writer: BlockWriter): void {
  const { slot, doubleIndirect, groups, descriptorBlocks, timestampSec } = input;
  const backups = backupGroups(groups);
  const pointers = writer.block(doubleIndirect);
  for (let number = 1 + descriptorBlocks; number <= DESCRIPTOR_AREA_BLOCKS; number += 1) {
    pointers.writeUInt32LE(number, (number - 1) * 4);
    if (backups.length === 0) continue;
    const copies = writer.block(number);
    for (const [at, group] of backups.entries()) {
      copies.writeUInt32LE(number + group * BLOCKS_PER_GROUP, at * 4);
    }
  }
  const reserved = DESCRIPTOR_AREA_BLOCKS - descriptorBlocks;
  writeInode(slot, {
    mode: MODE.file | 0o600,
    uid: 0,
    gid: 0,
    links: 1,
    size: BLOCK_SIZE * (POINTERS_IN_BLOCK ** 2 + POINTERS_IN_BLOCK + 12),
    blocks: 1 + reserved * (1 + backups.length),
    flags: 0,
    xattrBlock: 0,
    mtimeSec: timestampSec,
    mtimeNsec: 0,
    atimeSec: timestampSec,
    atimeNsec: 0,
  });
  blockPointers(slot).writeUInt32LE(doubleIndirect, DOUBLE_INDIRECT * 4);
}

/** Groups other than 0 that hold copies of the superblock and the descriptors. */
export function backupGroups(groups: number): number[] {
  const found: number[] = [];
  for (let at = nextSuperblockCopy(0); at < groups; at = nextSuperblockCopy(at)) found.push(at);
  return found;
}
