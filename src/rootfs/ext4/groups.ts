import type { BlockRun } from '../store/block-file.ts';
import { roomBeforeReserved, skipReserved } from '../store/block-allocator.ts';
import type { BlockWriter } from './block-writer.ts';
import { crc32c, crc32cOfNumber } from './crc32c.ts';
import { BLOCKS_PER_GROUP, DESCRIPTOR_SIZE, reservedAtGroupStart } from './geometry.ts';
import type { Layout } from './layout.ts';

const INODE_UNINIT = 1;
const BLOCK_UNINIT = 2;
const INODE_ZEROED = 4;

export interface GroupsInput {
  readonly layout: Layout;
  readonly fsSeed: number;
  /** Highest inode number in use: all up to it are. */
  readonly usedInodes: number;
  /** Directories by group. */
  readonly directories: readonly number[];
  /** From freeRunsOf(layout). */
  readonly free: readonly BlockRun[];
}

/** All free blocks of the finished disk, ascending. */
export function freeRunsOf({ space, blocks }: Layout): BlockRun[] {
  const runs = space.freeRuns();
  for (let at = space.end; at < blocks; ) {
    const start = skipReserved(at);
    const end = Math.min(blocks, start + roomBeforeReserved(start));
    if (end > start) runs.push({ start, count: end - start });
    at = Math.max(end, start);
  }
  return runs;
}

/**
 * Writes both bitmaps of every group that has something in use and returns the descriptor table.
 * Groups without anything are flagged instead: readers take their bitmaps as empty.
 */
export async function writeGroups(input: GroupsInput, writer: BlockWriter): Promise<Buffer> {
  const { layout, fsSeed, usedInodes, directories } = input;
  const table = Buffer.alloc(layout.groups * DESCRIPTOR_SIZE);
  const freeByGroup = splitByGroup(input.free, layout.groups);
  for (let group = 0; group < layout.groups; group += 1) {
    const descriptor = descriptorOf(table, group);
    const firstInode = group * layout.inodesPerGroup;
    const inodes = Math.min(Math.max(usedInodes - firstInode, 0), layout.inodesPerGroup);
    setNumber(descriptor, 0, 32, layout.blockBitmaps[group] ?? 0);
    setNumber(descriptor, 4, 36, layout.inodeBitmaps[group] ?? 0);
    setNumber(descriptor, 8, 40, layout.inodeTables[group] ?? 0);
    setHalves(descriptor, 14, 46, layout.inodesPerGroup - inodes);
    setHalves(descriptor, 16, 48, directories[group] ?? 0);
    setHalves(descriptor, 28, 50, layout.inodesPerGroup - inodes);
    const flags = inodes === 0 ? INODE_ZEROED | INODE_UNINIT : INODE_ZEROED;
    descriptor.writeUInt16LE(flags, 18);
  }
  for (let group = 0; group < layout.groups; group += 1) {
    writeBlockBitmap(group, descriptorOf(table, group), freeByGroup[group] ?? [], input, writer);
    if (writer.isFull) await writer.drain();
  }
  for (let group = 0; group < layout.groups; group += 1) {
    writeInodeBitmap(group, descriptorOf(table, group), input, writer);
    if (writer.isFull) await writer.drain();
  }
  for (let group = 0; group < layout.groups; group += 1) {
    const descriptor = descriptorOf(table, group);
    const crc = crc32c(crc32cOfNumber(fsSeed, group), descriptor);
    descriptor.writeUInt16LE(crc & 0xffff, 30);
  }
  return table;
}

function writeBlockBitmap(
  group: number,
  descriptor: Buffer,
  free: readonly BlockRun[],
  { layout, fsSeed }: GroupsInput,
  writer: BlockWriter,
): void {
  const first = group * BLOCKS_PER_GROUP;
  const freeBlocks = free.reduce((sum, run) => sum + run.count, 0);
  setHalves(descriptor, 12, 44, freeBlocks);
  const untouched = freeBlocks === BLOCKS_PER_GROUP - reservedAtGroupStart(group);
  if (untouched && group > 0 && group < layout.groups - 1) {
    descriptor.writeUInt16LE(descriptor.readUInt16LE(18) | BLOCK_UNINIT, 18);
    return;
  }
  const bitmap = writer.block(layout.blockBitmaps[group] ?? 0);
  // Bits behind the end of the disk stay set, as the format wants.
  bitmap.fill(0xff);
  for (const run of free) clearBits(bitmap, run.start - first, run.count);
  setHalves(descriptor, 24, 56, crc32c(fsSeed, bitmap));
}

function writeInodeBitmap(
  group: number,
  descriptor: Buffer,
  { layout, fsSeed, usedInodes }: GroupsInput,
  writer: BlockWriter,
): void {
  const used = Math.min(usedInodes - group * layout.inodesPerGroup, layout.inodesPerGroup);
  if (used <= 0) return;
  const bitmap = writer.block(layout.inodeBitmaps[group] ?? 0);
  bitmap.fill(0xff);
  clearBits(bitmap, used, layout.inodesPerGroup - used);
  setHalves(descriptor, 26, 58, crc32c(fsSeed, bitmap, 0, layout.inodesPerGroup / 8));
}

function splitByGroup(runs: readonly BlockRun[], groups: number): BlockRun[][] {
  const byGroup: BlockRun[][] = Array.from({ length: groups }, () => []);
  for (const run of runs) {
    const end = run.start + run.count;
    for (let start = run.start; start < end; ) {
      const group = Math.floor(start / BLOCKS_PER_GROUP);
      const count = Math.min(end, (group + 1) * BLOCKS_PER_GROUP) - start;
      byGroup[group]?.push({ start, count });
      start += count;
    }
  }
  return byGroup;
}

function clearBits(bitmap: Buffer, from: number, count: number): void {
  const end = from + count;
  let bit = from;
  for (; bit < end && (bit & 7) !== 0; bit += 1) clearBit(bitmap, bit);
  const wholeEnd = end & ~7;
  if (bit < wholeEnd) {
    bitmap.fill(0, bit >>> 3, wholeEnd >>> 3);
    bit = wholeEnd;
  }
  for (; bit < end; bit += 1) clearBit(bitmap, bit);
}

function clearBit(bitmap: Buffer, bit: number): void {
  bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) & ~(1 << (bit & 7));
}

function descriptorOf(table: Buffer, group: number): Buffer {
  return table.subarray(group * DESCRIPTOR_SIZE, (group + 1) * DESCRIPTOR_SIZE);
}

function setNumber(descriptor: Buffer, low: number, high: number, value: number): void {
  descriptor.writeUInt32LE(value % 2 ** 32, low);
  descriptor.writeUInt32LE(Math.floor(value / 2 ** 32), high);
}

function setHalves(descriptor: Buffer, low: number, high: number, value: number): void {
  descriptor.writeUInt16LE(value & 0xffff, low);
  descriptor.writeUInt16LE(value >>> 16, high);
}
