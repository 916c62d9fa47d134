import { BuilderdError } from '../../core/errors.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';
import type { ExtentList } from '../tree.ts';
import { crc32c } from './crc32c.ts';

const MAGIC = 0xf30a;
const IN_INODE = 4;
/** Entries of 12 bytes after a header of 12; the last 4 bytes hold the checksum. */
const IN_BLOCK = 340;
const CHECKSUM_AT = 12 + IN_BLOCK * 12;
/** A longer length would mean "allocated but not written". */
const MAX_LENGTH = 32768;
const MAX_LOGICAL = 2 ** 32;

/** Where tree blocks come from and go to. */
export interface BlockSink {
  takeOne(): number;
  block(number: number): Buffer;
}

/**
 * Joins what is consecutive, splits what is too long for one extent, and refuses lists that would
 * corrupt the disk. `blocks` is the file's length: no extent may reach beyond it.
 */
export function normaliseExtents(list: ExtentList, blocks: number): number[] {
  const out: number[] = [];
  let logicalEnd = 0;
  let physicalEnd = -1;
  for (let at = 0; at < list.length; at += 3) {
    const logical = list[at] ?? -1;
    const physical = list[at + 1] ?? -1;
    let count = list[at + 2] ?? 0;
    if (logical < logicalEnd || physical < 0 || count <= 0 || logical + count > blocks) {
      throw new BuilderdError(
        'internal',
        `Cannot write an extent tree: extent ${logical}+${count} does not fit (${blocks} blocks)`,
      );
    }
    const joins = logical === logicalEnd && physical === physicalEnd;
    logicalEnd = logical + count;
    physicalEnd = physical + count;
    let done = 0;
    if (joins) {
      const last = out.length - 1;
      const room = Math.min(count, MAX_LENGTH - (out[last] ?? 0));
      out[last] = (out[last] ?? 0) + room;
      done = room;
    }
    count -= done;
    for (; count > 0; count -= MAX_LENGTH, done += MAX_LENGTH) {
      out.push(logical + done, physical + done, Math.min(count, MAX_LENGTH));
    }
  }
  return out;
}

/**
 * Writes the tree for a normalised list: its root into `root` (the 60 bytes of i_block), further
 * levels into blocks of `sink`. Returns how many blocks the tree took.
 */
export function writeExtentTree(
  extents: readonly number[],
  root: Buffer,
  seed: number,
  sink: BlockSink,
): number {
  let entries = extents;
  let depth = 0;
  let taken = 0;
  while (entries.length / 3 > IN_INODE) {
    const parents: number[] = [];
    for (let at = 0; at < entries.length; at += IN_BLOCK * 3) {
      const count = Math.min(IN_BLOCK, (entries.length - at) / 3);
      const number = sink.takeOne();
      const block = sink.block(number);
      writeNode(block, entries, at, count, depth, IN_BLOCK);
      block.writeUInt32LE(crc32c(seed, block, 0, CHECKSUM_AT), CHECKSUM_AT);
      parents.push(entries[at] ?? 0, number, 0);
      taken += 1;
    }
    entries = parents;
    depth += 1;
  }
  writeNode(root, entries, 0, entries.length / 3, depth, IN_INODE);
  return taken;
}

/** Blocks of a file of so many bytes; throws for one that 32-bit block numbers cannot hold. */
export function blocksOfSize(size: number): number {
  const blocks = Math.ceil(size / BLOCK_SIZE);
  if (blocks >= MAX_LOGICAL) {
    throw new BuilderdError('artifact.unrepresentable', `Cannot store a file of ${size} bytes`);
  }
  return blocks;
}

function writeNode(
  node: Buffer,
  entries: readonly number[],
  from: number,
  count: number,
  depth: number,
  capacity: number,
): void {
  node.writeUInt16LE(MAGIC, 0);
  node.writeUInt16LE(count, 2);
  node.writeUInt16LE(capacity, 4);
  node.writeUInt16LE(depth, 6);
  for (let entry = 0; entry < count; entry += 1) {
    const logical = entries[from + entry * 3] ?? 0;
    const physical = entries[from + entry * 3 + 1] ?? 0;
    const at = 12 + entry * 12;
    node.writeUInt32LE(logical, at);
    const low = physical % 2 ** 32;
    const high = Math.floor(physical / 2 ** 32);
    if (depth === 0) {
      node.writeUInt16LE(entries[from + entry * 3 + 2] ?? 0, at + 4);
      node.writeUInt16LE(high, at + 6);
      node.writeUInt32LE(low, at + 8);
    } else {
      node.writeUInt32LE(low, at + 4);
      node.writeUInt16LE(high, at + 8);
    }
  }
}
