import { escapeBytes, type ByteString } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { sortedChildren, type Inode, type MergedTree, type TreeNode } from '../tree.ts';
import type { BlockWriter } from './block-writer.ts';
import {
  planDirectory,
  writeDirectory,
  writeEmptyBlock,
  type DirectoryEntry,
} from './directory.ts';
import { blocksOfSize, normaliseExtents, writeExtentTree, type BlockSink } from './extent-tree.ts';
import { DirectoryHasher } from './half-md4.ts';
import {
  addLink,
  blockPointers,
  FILE_TYPE,
  FLAG_EXTENTS,
  FLAG_INDEX,
  inodeSeed,
  isDoubted,
  MAX_LINKS,
  MODE,
  writeDevice,
  writeInode,
} from './inode.ts';
import type { InodeTable } from './inode-table.ts';
import type { Space } from './space.ts';
import { XattrBlocks } from './xattr-blocks.ts';
import { encodeXattrBlock, planXattrs, writeInodeXattrs } from './xattr.ts';

export const ROOT_INODE = 2;
const FIRST_INODE = 11;
const LOST_FOUND = 'lost+found' as ByteString;
const LOST_FOUND_BLOCKS = 4;
/** A shorter target lies in the inode, with its end mark. */
const LONG_TARGET = 60;
const MAX_TARGET = 4095;
const MAX_NAME = 255;

/** A name with the way up to the root; the path is put together only for a message. */
interface PathPart {
  readonly name: ByteString;
  readonly parent: PathPart | undefined;
}

interface PendingDirectory {
  readonly node: TreeNode;
  readonly ino: number;
  readonly parent: number;
  readonly path: PathPart | undefined;
}

export interface TreeWriterInput {
  readonly space: Space;
  readonly writer: BlockWriter;
  readonly table: InodeTable;
  readonly fsSeed: number;
  readonly hashSeed: Buffer;
  readonly lostFound: boolean;
  /** Times of lost+found. */
  readonly timestampSec: number;
  readonly signal: AbortSignal;
}

/**
 * Gives every object of the tree its inode and writes directories, extent trees and attribute
 * blocks. Directories go depth first, names in byte order; the entries of one directory get
 * consecutive numbers.
 */
export class TreeWriter {
  readonly #input: TreeWriterInput;
  readonly #hasher: DirectoryHasher;
  readonly #xattrBlocks: XattrBlocks;
  readonly #sink: BlockSink;
  readonly #numbers = new Map<Inode, number>();
  readonly #directories: number[] = [];
  #next = FIRST_INODE;
  #clampedTimes = 0;

  constructor(input: TreeWriterInput) {
    const { space, writer } = input;
    this.#input = input;
    this.#hasher = new DirectoryHasher(input.hashSeed);
    this.#xattrBlocks = new XattrBlocks(space, writer, input.fsSeed);
    this.#sink = { takeOne: () => space.takeOne(), block: (number) => writer.block(number) };
  }

  /** Inode numbers of all directories. */
  get directories(): readonly number[] {
    return this.#directories;
  }

  /** Inodes with a time that ext4 tools do not accept. */
  get clampedTimes(): number {
    return this.#clampedTimes;
  }

  async write(tree: MergedTree): Promise<void> {
    const { writer, signal } = this.#input;
    const pending: PendingDirectory[] = [
      { node: tree.root, ino: ROOT_INODE, parent: ROOT_INODE, path: undefined },
    ];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      throwIfAborted(signal, 'write the ext4 image');
      const found = await this.#writeDirectory(next);
      for (const directory of found.reverse()) pending.push(directory);
      if (writer.isFull) await writer.drain();
    }
    await writer.drain();
    await this.#xattrBlocks.finish();
  }

  /** Writes one directory and the inodes of everything in it; returns its subdirectories. */
  async #writeDirectory(directory: PendingDirectory): Promise<PendingDirectory[]> {
    const { node, ino } = directory;
    const { writer } = this.#input;
    const entries: DirectoryEntry[] = [];
    const subdirectories: PendingDirectory[] = [];
    let adopted = 0;
    if (ino === ROOT_INODE && this.#input.lostFound && node.children?.has(LOST_FOUND) !== true) {
      this.#writeLostFound();
      adopted = 1;
      entries.push({ name: LOST_FOUND, ino: FIRST_INODE, fileType: FILE_TYPE.dir });
    }
    for (const [name, child] of sortedChildren(node)) {
      const path = { name, parent: directory.path };
      checkName(path);
      const number = this.#numberOf(child.inode, path);
      entries.push({ name, ino: number, fileType: FILE_TYPE[child.inode.kind] });
      if (child.inode.kind === 'dir') {
        subdirectories.push({ node: child, ino: number, parent: ino, path });
      }
      // One directory may hold two million symlinks or attributes with a block each.
      if (writer.isFull) await writer.drain();
    }
    if (adopted > 0) entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#writeDirectoryInode(directory, entries, subdirectories.length + adopted);
    return subdirectories;
  }

  #numberOf(inode: Inode, path: PathPart): number {
    if (inode.kind !== 'dir') {
      const known = this.#numbers.get(inode);
      if (known !== undefined) {
        addLink(this.#input.table.slot(known), () => pathOf(path));
        return known;
      }
      this.#numbers.set(inode, this.#next);
      this.#writeLeaf(inode, this.#next, path);
    }
    this.#next += 1;
    return this.#next - 1;
  }

  /** Everything that is not a directory. */
  #writeLeaf(inode: Inode, ino: number, path: PathPart): void {
    const slot = this.#input.table.slot(ino);
    const pointers = blockPointers(slot);
    const seed = inodeSeed(this.#input.fsSeed, ino);
    let blocks = 0;
    let flags = 0;
    switch (inode.kind) {
      case 'file': {
        const extents = normaliseExtents(inode.extents, blocksOfSize(inode.size));
        for (let at = 2; at < extents.length; at += 3) blocks += extents[at] ?? 0;
        blocks += writeExtentTree(extents, pointers, seed, this.#sink);
        flags = FLAG_EXTENTS;
        break;
      }
      case 'symlink':
        checkTarget(inode.target, path);
        if (inode.target.length < LONG_TARGET) {
          pointers.write(inode.target, 0, 'latin1');
        } else {
          const number = this.#input.space.takeOne();
          this.#input.writer.block(number).write(inode.target, 0, 'latin1');
          writeExtentTree([0, number, 1], pointers, seed, this.#sink);
          blocks = 1;
          flags = FLAG_EXTENTS;
        }
        break;
      case 'char':
      case 'block':
        writeDevice(slot, inode.devMajor, inode.devMinor, () => pathOf(path));
        break;
      default:
        break;
    }
    const size = inode.kind === 'file' ? inode.size : inode.target.length;
    this.#writeInode(slot, inode, { blocks, flags, links: 1, size, path });
  }

  #writeDirectoryInode(
    { ino, parent, node, path }: PendingDirectory,
    entries: readonly DirectoryEntry[],
    subdirectories: number,
  ): void {
    const { table, fsSeed } = this.#input;
    const plan = planDirectory(entries, this.#hasher);
    const seed = inodeSeed(fsSeed, ino);
    const slot = table.slot(ino);
    const tree = this.#writeBlocks(slot, seed, plan.blocks, (nextBlock) =>
      writeDirectory(plan, { ino, parent, seed }, nextBlock),
    );
    const links = 2 + subdirectories;
    this.#directories.push(ino);
    this.#writeInode(slot, node.inode, {
      blocks: plan.blocks + tree,
      flags: plan.indexed ? FLAG_EXTENTS | FLAG_INDEX : FLAG_EXTENTS,
      // 1 means "too many to count" (feature dir_nlink).
      links: links > MAX_LINKS ? 1 : links,
      size: plan.blocks * 4096,
      path,
    });
  }

  /** Empty blocks in store, so that fsck can put things there on a full disk. */
  #writeLostFound(): void {
    const { table, fsSeed, timestampSec } = this.#input;
    const ino = this.#next;
    this.#next += 1;
    const seed = inodeSeed(fsSeed, ino);
    const slot = table.slot(ino);
    this.#writeBlocks(slot, seed, LOST_FOUND_BLOCKS, (nextBlock) => {
      const empty = { blocks: 1, indexed: false, entries: [], leaves: [] };
      writeDirectory(empty, { ino, parent: ROOT_INODE, seed }, nextBlock);
      for (let at = 1; at < LOST_FOUND_BLOCKS; at += 1) writeEmptyBlock(nextBlock(), seed);
    });
    this.#directories.push(ino);
    writeInode(slot, {
      mode: MODE.dir | 0o700,
      uid: 0,
      gid: 0,
      links: 2,
      size: LOST_FOUND_BLOCKS * 4096,
      blocks: LOST_FOUND_BLOCKS,
      flags: FLAG_EXTENTS,
      xattrBlock: 0,
      mtimeSec: timestampSec,
      mtimeNsec: 0,
      atimeSec: timestampSec,
      atimeNsec: 0,
    });
  }

  /** Lets `write` fill `count` fresh blocks and points the slot at them. Returns tree blocks. */
  #writeBlocks(
    slot: Buffer,
    seed: number,
    count: number,
    write: (nextBlock: () => Buffer) => void,
  ): number {
    const { space, writer } = this.#input;
    const extents: number[] = [];
    write(() => {
      const number = space.takeOne();
      extents.push(extents.length / 3, number, 1);
      return writer.block(number);
    });
    return writeExtentTree(normaliseExtents(extents, count), blockPointers(slot), seed, this.#sink);
  }

  #writeInode(
    slot: Buffer,
    inode: Inode,
    about: {
      blocks: number;
      flags: number;
      links: number;
      size: number;
      path: PathPart | undefined;
    },
  ): void {
    let blocks = about.blocks;
    let xattrBlock = 0;
    if (inode.xattrs.length > 0) {
      const plan = planXattrs(inode.xattrs, () => pathOf(about.path));
      writeInodeXattrs(slot, plan.inInode);
      if (plan.inBlock.length > 0) {
        xattrBlock = this.#xattrBlocks.place(encodeXattrBlock(plan.inBlock));
        blocks += 1;
      }
    }
    if (isDoubted(inode.mtimeSec) || isDoubted(inode.atimeSec)) this.#clampedTimes += 1;
    writeInode(slot, {
      mode: MODE[inode.kind] | (inode.mode & 0o7777),
      uid: inode.uid,
      gid: inode.gid,
      links: about.links,
      size: about.size,
      blocks,
      flags: about.flags,
      xattrBlock,
      mtimeSec: inode.mtimeSec,
      mtimeNsec: inode.mtimeNsec,
      atimeSec: inode.atimeSec,
      atimeNsec: inode.atimeNsec,
    });
  }
}

function checkName(path: PathPart): void {
  const { name } = path;
  if (name.length > 0 && name.length <= MAX_NAME && name !== '.' && name !== '..') {
    if (!name.includes('/') && !name.includes('\0')) return;
  }
  throw new BuilderdError(
    'artifact.unrepresentable',
    `Cannot store ${pathOf(path)} in ext4: a name has 1 to ${MAX_NAME} bytes, no "/", no NUL`,
  );
}

function checkTarget(target: ByteString, path: PathPart): void {
  if (target.length > 0 && target.length <= MAX_TARGET && !target.includes('\0')) return;
  throw new BuilderdError(
    'artifact.unrepresentable',
    `Cannot store symlink ${pathOf(path)} in ext4: a target has 1 to ${MAX_TARGET} bytes, no NUL`,
  );
}

function pathOf(path: PathPart | undefined): string {
  const names: string[] = [];
  for (let part = path; part !== undefined; part = part.parent) names.push(part.name);
  return `/${escapeBytes(names.reverse().join('/') as ByteString)}`;
}
