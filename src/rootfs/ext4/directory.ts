import type { ByteString } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';
import { crc32c, crc32cOfZeros } from './crc32c.ts';
import type { DirectoryHasher } from './half-md4.ts';

export interface DirectoryEntry {
  readonly name: ByteString;
  readonly ino: number;
  /** As ext4 numbers kinds of files: 1 file, 2 directory, … */
  readonly fileType: number;
}

/** The checksum record at the end of every block of entries. */
const TAIL = 12;
const TAIL_AT = BLOCK_SIZE - TAIL;
const DOTS = 24;
const DIRECTORY = 2;
const HALF_MD4 = 1;
/** Index entries of 8 bytes in the root (after both dots and its info) and in a further node. */
const ROOT_ENTRIES_AT = 32;
const ROOT_CAPACITY = (BLOCK_SIZE - ROOT_ENTRIES_AT - 8) / 8;
const NODE_ENTRIES_AT = 8;
const NODE_CAPACITY = (BLOCK_SIZE - NODE_ENTRIES_AT - 8) / 8;
/** Entries are sorted by hash and position packed into one double. */
const MAX_ENTRIES = 2 ** 22;

/** One leaf of an indexed directory: entries `from` up to the next leaf's, by hash. */
interface Leaf {
  readonly from: number;
  /** Lowest hash; bit 0 says that the previous leaf ends with the same one. */
  readonly hash: number;
}

/** A directory whose number of blocks is known and that can be written. */
export interface DirectoryPlan {
  readonly blocks: number;
  readonly indexed: boolean;
  readonly entries: readonly DirectoryEntry[];
  readonly leaves: readonly Leaf[];
}

/** Who the directory is, for its dots and its checksums. */
export interface DirectoryIdentity {
  readonly ino: number;
  readonly parent: number;
  readonly seed: number;
}

/** Entries in order of name bytes. One block stays a plain list; more get a hashed index. */
export function planDirectory(
  entries: readonly DirectoryEntry[],
  hasher: DirectoryHasher,
): DirectoryPlan {
  let bytes = DOTS;
  for (const entry of entries) bytes += recordLength(entry.name);
  if (bytes <= TAIL_AT) return { blocks: 1, indexed: false, entries, leaves: [] };
  if (entries.length >= MAX_ENTRIES) {
    throw new BuilderdError(
      'archive.limit',
      `Cannot store a directory of ${entries.length} names: the limit is ${MAX_ENTRIES - 1}`,
    );
  }
  const keys = new Float64Array(entries.length);
  for (const [at, entry] of entries.entries()) {
    keys[at] = (hasher.hash(entry.name) / 2) * MAX_ENTRIES + at;
  }
  keys.sort();
  const ordered: DirectoryEntry[] = [];
  const leaves: Leaf[] = [];
  let room = 0;
  let previous = -1;
  for (const key of keys) {
    const entry = entries[key % MAX_ENTRIES];
    if (entry === undefined) continue;
    const hash = Math.floor(key / MAX_ENTRIES) * 2;
    const length = recordLength(entry.name);
    if (length > room) {
      leaves.push({ from: ordered.length, hash: hash === previous ? hash + 1 : hash });
      room = TAIL_AT;
    }
    room -= length;
    previous = hash;
    ordered.push(entry);
  }
  const nodes = leaves.length <= ROOT_CAPACITY ? 0 : Math.ceil(leaves.length / NODE_CAPACITY);
  return { blocks: 1 + nodes + leaves.length, indexed: true, entries: ordered, leaves };
}

/** Writes the plan's blocks in logical order. */
export function writeDirectory(
  plan: DirectoryPlan,
  identity: DirectoryIdentity,
  nextBlock: () => Buffer,
): void {
  if (!plan.indexed) {
    const block = nextBlock();
    writeDots(block, identity, 12);
    writeEntries(block, plan.entries, 0, plan.entries.length, DOTS, identity.seed);
    return;
  }
  writeIndex(plan, identity, nextBlock);
  for (const [at, leaf] of plan.leaves.entries()) {
    const to = plan.leaves[at + 1]?.from ?? plan.entries.length;
    writeEntries(nextBlock(), plan.entries, leaf.from, to, 0, identity.seed);
  }
}

/** An empty block of entries, as lost+found keeps in store. */
export function writeEmptyBlock(block: Buffer, seed: number): void {
  writeEntries(block, [], 0, 0, 0, seed);
}

function recordLength(name: ByteString): number {
  return 8 + ((name.length + 3) & ~3);
}

function writeDots(block: Buffer, { ino, parent }: DirectoryIdentity, lastLength: number): void {
  writeRecord(block, 0, { name: '.' as ByteString, ino, fileType: DIRECTORY }, 12);
  const dotDot = { name: '..' as ByteString, ino: parent, fileType: DIRECTORY };
  writeRecord(block, 12, dotDot, lastLength);
}

function writeEntries(
  block: Buffer,
  entries: readonly DirectoryEntry[],
  from: number,
  to: number,
  start: number,
  seed: number,
): void {
  let at = start;
  let last = start === DOTS ? 12 : 0;
  for (let index = from; index < to; index += 1) {
    const entry = entries[index];
    if (entry === undefined) break;
    const length = recordLength(entry.name);
    writeRecord(block, at, entry, length);
    last = at;
    at += length;
  }
  // The last record reaches to the tail; in a block without any it is a free one.
  block.writeUInt16LE(TAIL_AT - last, last + 4);
  block.writeUInt16LE(TAIL, TAIL_AT + 4);
  block[TAIL_AT + 7] = 0xde;
  const used = Math.max(at, last + 8);
  const crc = crc32cOfZeros(crc32c(seed, block, 0, used), TAIL_AT - used);
  block.writeUInt32LE(crc, TAIL_AT + 8);
}

function writeRecord(block: Buffer, at: number, entry: DirectoryEntry, length: number): void {
  block.writeUInt32LE(entry.ino, at);
  block.writeUInt16LE(length, at + 4);
  block[at + 6] = entry.name.length;
  block[at + 7] = entry.fileType;
  block.write(entry.name, at + 8, 'latin1');
}

function writeIndex(
  plan: DirectoryPlan,
  identity: DirectoryIdentity,
  nextBlock: () => Buffer,
): void {
  const leafCount = plan.leaves.length;
  const nodes = plan.blocks - 1 - leafCount;
  if (nodes > ROOT_CAPACITY) {
    throw new BuilderdError('archive.limit', `Cannot store a directory of ${leafCount} blocks`);
  }
  const leafTargets = plan.leaves.map(({ hash }, at) => ({ hash, block: 1 + nodes + at }));
  const nodeTargets = Array.from({ length: nodes }, (_, at) => ({
    hash: leafTargets[at * NODE_CAPACITY]?.hash ?? 0,
    block: 1 + at,
  }));
  const root = nextBlock();
  writeDots(root, identity, BLOCK_SIZE - 12);
  root[28] = HALF_MD4;
  root[29] = 8;
  root[30] = nodes === 0 ? 0 : 1;
  const top = nodes === 0 ? leafTargets : nodeTargets;
  writeIndexEntries(root, ROOT_ENTRIES_AT, ROOT_CAPACITY, top, identity.seed);
  for (let at = 0; at < nodes; at += 1) {
    const node = nextBlock();
    node.writeUInt16LE(BLOCK_SIZE, 4);
    const targets = leafTargets.slice(at * NODE_CAPACITY, (at + 1) * NODE_CAPACITY);
    writeIndexEntries(node, NODE_ENTRIES_AT, NODE_CAPACITY, targets, identity.seed);
  }
}

/** The first entry has no hash: limit and count stand in its place. */
function writeIndexEntries(
  block: Buffer,
  start: number,
  capacity: number,
  targets: readonly { readonly hash: number; readonly block: number }[],
  seed: number,
): void {
  for (const [index, target] of targets.entries()) {
    block.writeUInt32LE(target.hash, start + index * 8);
    block.writeUInt32LE(target.block, start + index * 8 + 4);
  }
  block.writeUInt16LE(capacity, start);
  block.writeUInt16LE(targets.length, start + 2);
  const tail = start + capacity * 8;
  const crc = crc32c(seed, block, 0, start + targets.length * 8);
  block.writeUInt32LE(crc32cOfZeros(crc, 8), tail + 4);
}
