import { BuilderdError } from '../../core/errors.ts';
import { BLOCK_SIZE, type BlockFile, type BlockRun } from '../store/block-file.ts';
import type { MergedTree } from '../tree.ts';
import { BlockWriter } from './block-writer.ts';
import { freeBlocksOf } from './claimed-blocks.ts';
import { CRC_START, crc32c } from './crc32c.ts';
import { normaliseExtents, writeExtentTree } from './extent-tree.ts';
import {
  BLOCKS_PER_GROUP,
  DESCRIPTOR_AREA_BLOCKS,
  DESCRIPTORS_PER_BLOCK,
  reservedAtGroupStart,
} from './geometry.ts';
import { freeRunsOf, writeGroups } from './groups.ts';
import { blockPointers, FLAG_EXTENTS, INODE_SIZE, inodeSeed, MODE, writeInode } from './inode.ts';
import { InodeTable } from './inode-table.ts';
import { journalBlocks, writeJournalSuperblock } from './journal.ts';
import { GROUPS_PER_FLEX, planLayout, type Layout, type SizePolicy } from './layout.ts';
import { backupGroups, RESIZE_INODE, writeResizeInode } from './resize-inode.ts';
import { Space } from './space.ts';
import { encodeSuperblock, type SuperblockFields } from './superblock.ts';
import { TreeWriter } from './tree-writer.ts';

const JOURNAL_INODE = 8;
const INODES_PER_BLOCK = BLOCK_SIZE / INODE_SIZE;

export interface Ext4Options {
  readonly size: SizePolicy;
  /** At most 16 bytes in UTF-8; empty for none. */
  readonly label: string;
  /** 16 bytes. */
  readonly uuid: Buffer;
  /** 16 bytes: the seed of the directory hash. */
  readonly hashSeed: Buffer;
  readonly journal: boolean;
  /** Adds /lost+found unless the tree has that name already. */
  readonly lostFound: boolean;
  /** Seconds since 1970 for the superblock and for objects that the tree does not have. */
  readonly timestampSec: number;
  readonly signal: AbortSignal;
}

export interface Ext4Summary {
  /** Of the file; with a fixed size it can be more than blocks × 4096. */
  readonly sizeBytes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly groups: number;
  readonly journalBlocks: number;
  /** Blocks in use that hold no file content: tables, directories, journal, … */
  readonly metadataBlocks: number;
  /** Inodes with a time between 2310 and 2378, which e2fsck takes for damage: set to 2310. */
  readonly clampedTimes: number;
}

/**
 * Turns the block file, which already holds the content of the tree's files at the blocks that
 * their extents name, into an ext4 image of the final size. Does not fsync. The allocator is not
 * told about metadata: after this the file is an image and no longer a store to add to.
 * Throws `artifact.too_small`, `artifact.unrepresentable`, `archive.limit`, `build.cancelled`.
 */
export async function writeExt4(
  tree: MergedTree,
  file: BlockFile,
  options: Ext4Options,
): Promise<Ext4Summary> {
  const label = Buffer.from(options.label, 'utf8');
  checkOptions(options, label);
  const { uuid, hashSeed, lostFound, timestampSec, signal } = options;
  const fsSeed = crc32c(CRC_START, uuid);
  const dirtyEnd = file.allocator.end;
  const space = new Space(freeBlocksOf(tree, dirtyEnd), dirtyEnd);
  const writer = new BlockWriter(file.handle, signal);
  const table = new InodeTable();

  const treeWriter = new TreeWriter({
    space,
    writer,
    table,
    fsSeed,
    hashSeed,
    lostFound,
    timestampSec,
    signal,
  });
  await treeWriter.write(tree);
  const doubleIndirect = space.takeOne();
  const journal = options.journal ? addJournal(space, table, writer, fsSeed, options) : undefined;
  space.trim();

  const usedInodes = Math.max(table.highest, 10);
  const layout = planLayout(space, usedInodes, options.size);
  const sizeBytes = options.size.kind === 'fixed' ? options.size.bytes : layout.blocks * BLOCK_SIZE;
  const descriptorBlocks = Math.ceil(layout.groups / DESCRIPTORS_PER_BLOCK);
  const free = freeRunsOf(layout);
  const freeBlocks = free.reduce((sum, run) => sum + run.count, 0);
  const inodes = layout.groups * layout.inodesPerGroup;
  const fields: SuperblockFields = {
    blocks: layout.blocks,
    freeBlocks,
    inodes,
    freeInodes: inodes - usedInodes,
    inodesPerGroup: layout.inodesPerGroup,
    groupsPerFlexLog2: Math.log2(GROUPS_PER_FLEX),
    reservedDescriptorBlocks: DESCRIPTOR_AREA_BLOCKS - descriptorBlocks,
    uuid,
    hashSeed,
    label,
    timestampSec,
    journal,
  };

  await file.handle.truncate(sizeBytes);
  const slot = table.slot(RESIZE_INODE);
  const { groups } = layout;
  writeResizeInode({ slot, doubleIndirect, groups, descriptorBlocks, timestampSec }, writer);
  table.seal(fsSeed);
  await writeInodeTables(table, layout, dirtyEnd, writer);
  const directories = countByGroup(treeWriter.directories, layout);
  const descriptors = await writeGroups({ layout, fsSeed, usedInodes, directories, free }, writer);
  writeSuperblocks(fields, descriptors, groups, writer);
  await writer.drain();
  await zeroStale(free, dirtyEnd, writer);

  return {
    sizeBytes,
    blocks: layout.blocks,
    freeBlocks,
    inodes,
    freeInodes: inodes - usedInodes,
    groups,
    journalBlocks: journal === undefined ? 0 : journal.size / BLOCK_SIZE,
    metadataBlocks: layout.blocks - freeBlocks - tree.counts.contentBlocks,
    clampedTimes: treeWriter.clampedTimes,
  };
}

function checkOptions({ uuid, hashSeed, size }: Ext4Options, label: Buffer): void {
  if (label.length > 16) {
    throw new BuilderdError('usage.invalid', 'Cannot use the label: it is longer than 16 bytes');
  }
  const bytes = size.kind === 'fixed' ? size.bytes : size.extraBytes;
  if (uuid.length !== 16 || hashSeed.length !== 16 || !Number.isSafeInteger(bytes) || bytes < 0) {
    throw new BuilderdError('internal', 'Cannot write an ext4 image: the options are not valid');
  }
}

function addJournal(
  space: Space,
  table: InodeTable,
  writer: BlockWriter,
  fsSeed: number,
  { size, uuid, timestampSec }: Ext4Options,
): { readonly size: number; readonly pointers: Buffer } {
  const disk = size.kind === 'fixed' ? size.bytes : space.end * BLOCK_SIZE + size.extraBytes;
  const count = journalBlocks(disk);
  const extents: number[] = [];
  let logical = 0;
  for (const run of space.takeTailRuns(count)) {
    extents.push(logical, run.start, run.count);
    logical += run.count;
  }
  writeJournalSuperblock(writer.block(extents[1] ?? 0), count, uuid);
  const slot = table.slot(JOURNAL_INODE);
  const pointers = blockPointers(slot);
  const tree = writeExtentTree(
    normaliseExtents(extents, count),
    pointers,
    inodeSeed(fsSeed, JOURNAL_INODE),
    { takeOne: () => space.takeOne(), block: (number) => writer.block(number) },
  );
  writeInode(slot, {
    mode: MODE.file | 0o600,
    uid: 0,
    gid: 0,
    links: 1,
    size: count * BLOCK_SIZE,
    blocks: count + tree,
    flags: FLAG_EXTENTS,
    xattrBlock: 0,
    mtimeSec: timestampSec,
    mtimeNsec: 0,
    atimeSec: timestampSec,
    atimeNsec: 0,
  });
  return { size: count * BLOCK_SIZE, pointers };
}

/** Unused inodes are zeros: holes behind the data, written where data once was. */
async function writeInodeTables(
  table: InodeTable,
  layout: Layout,
  dirtyEnd: number,
  writer: BlockWriter,
): Promise<void> {
  const used = Math.ceil(table.highest / INODES_PER_BLOCK) * INODES_PER_BLOCK;
  for (const [group, start] of layout.inodeTables.entries()) {
    const first = group * layout.inodesPerGroup + 1;
    const last = first + layout.inodesPerGroup - 1;
    let next = start;
    for (const piece of table.pieces(first, Math.min(last, used))) {
      await writer.write(piece.bytes, next);
      next += piece.bytes.length / BLOCK_SIZE;
    }
    const end = Math.min(start + layout.inodesPerGroup / INODES_PER_BLOCK, dirtyEnd);
    if (next < end) await writer.zero(next, end - next);
  }
}

function countByGroup(directories: readonly number[], layout: Layout): number[] {
  const counts = Array.from({ length: layout.groups }, () => 0);
  for (const ino of directories) {
    const group = Math.floor((ino - 1) / layout.inodesPerGroup);
    counts[group] = (counts[group] ?? 0) + 1;
  }
  return counts;
}

function writeSuperblocks(
  fields: SuperblockFields,
  descriptors: Buffer,
  groups: number,
  writer: BlockWriter,
): void {
  for (const group of [0, ...backupGroups(groups)]) {
    const first = group * BLOCKS_PER_GROUP;
    // The primary one stands behind 1 KiB for a boot loader, copies at the start of their block.
    encodeSuperblock(fields, group).copy(writer.block(first), group === 0 ? 1024 : 0);
    for (let at = 0; at * BLOCK_SIZE < descriptors.length; at += 1) {
      descriptors.copy(writer.block(first + 1 + at), 0, at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE);
    }
  }
}

/** What freed blocks once held must not get out, nor make equal trees differ. */
async function zeroStale(
  free: readonly BlockRun[],
  dirtyEnd: number,
  writer: BlockWriter,
): Promise<void> {
  for (const { start, count } of free) {
    const end = Math.min(start + count, dirtyEnd);
    const from = Math.max(start, reservedAtGroupStart(0));
    if (from < end) await writer.zero(from, end - from);
  }
}
