import { escapeBytes, type ByteString } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';
import type { Xattr } from '../tree.ts';
import { toExt4Acl } from './posix-acl.ts';

const MAGIC = 0xea020000;
/** Where the space after the fixed fields of a 256-byte inode begins, and where it ends. */
export const IN_INODE_AT = 160;
const INODE_END = 256;
const BLOCK_HEADER = 32;
const ENTRY_HEADER = 16;
const END_MARK = 4;
/** XATTR_NAME_MAX: the system calls take no longer name, prefix and all. */
const MAX_NAME = 255;

interface StoredXattr {
  readonly index: number;
  readonly name: ByteString;
  readonly value: Buffer;
}

export interface XattrPlan {
  readonly inInode: readonly StoredXattr[];
  readonly inBlock: readonly StoredXattr[];
}

const PREFIXES = [
  ['user.', 1],
  ['trusted.', 4],
  ['security.', 6],
] as const;
const ACLS = new Map<string, number>([
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
]);

/**
 * Decides what goes into the inode (what fits, in the order of storage) and what into the one
 * external block. `path` names the object in messages; it is only called to refuse.
 */
export function planXattrs(xattrs: readonly Xattr[], path: () => string): XattrPlan {
  const stored = xattrs.map((xattr) => toStored(xattr, path)).sort(compareStored);
  const inInode: StoredXattr[] = [];
  const inBlock: StoredXattr[] = [];
  let inodeRoom = INODE_END - IN_INODE_AT - 4 - END_MARK;
  let blockRoom = BLOCK_SIZE - BLOCK_HEADER - END_MARK;
  for (const xattr of stored) {
    const size = storedSize(xattr);
    if (size <= inodeRoom) {
      inodeRoom -= size;
      inInode.push(xattr);
    } else {
      blockRoom -= size;
      inBlock.push(xattr);
    }
  }
  if (blockRoom < 0) {
    const bytes = stored.reduce((sum, xattr) => sum + storedSize(xattr), 0);
    throw new BuilderdError(
      'artifact.unrepresentable',
      `Cannot store the extended attributes of ${path()} in ext4: ` +
        `${bytes} bytes, but one block of ${BLOCK_SIZE} bytes must hold them`,
    );
  }
  return { inInode, inBlock };
}

/** Fills the end of a 256-byte inode. Entries there carry no hash. */
export function writeInodeXattrs(inode: Buffer, xattrs: readonly StoredXattr[]): void {
  if (xattrs.length === 0) return;
  inode.writeUInt32LE(MAGIC, IN_INODE_AT);
  // Offsets of values count from the first entry.
  writeEntries(inode, IN_INODE_AT + 4, INODE_END, IN_INODE_AT + 4, xattrs, false);
}

/** A whole external block, but for its checksum and with one user. */
export function encodeXattrBlock(xattrs: readonly StoredXattr[]): Buffer {
  const block = Buffer.alloc(BLOCK_SIZE);
  block.writeUInt32LE(MAGIC, 0);
  block.writeUInt32LE(1, 4);
  block.writeUInt32LE(1, 8);
  const hash = writeEntries(block, BLOCK_HEADER, BLOCK_SIZE, 0, xattrs, true);
  block.writeUInt32LE(hash, 12);
  return block;
}

function toStored({ name, value }: Xattr, path: () => string): StoredXattr {
  const refuse = (why: string): BuilderdError =>
    new BuilderdError(
      'artifact.unrepresentable',
      `Cannot store extended attribute ${escapeBytes(name)} of ${path()} in ext4: ${why}`,
    );
  const acl = ACLS.get(name);
  if (acl !== undefined) {
    const converted = toExt4Acl(value);
    if (converted === undefined) throw refuse('it is not a valid POSIX access list');
    return { index: acl, name: '' as ByteString, value: converted };
  }
  for (const [prefix, index] of PREFIXES) {
    if (!name.startsWith(prefix)) continue;
    const rest = name.slice(prefix.length) as ByteString;
    if (rest === '' || name.length > MAX_NAME || rest.includes('\0')) throw refuse('bad name');
    return { index, name: rest, value };
  }
  throw refuse('it has no place for names of this kind');
}

/** The order in which the kernel searches an external block. */
function compareStored(a: StoredXattr, b: StoredXattr): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function storedSize({ name, value }: StoredXattr): number {
  return ENTRY_HEADER + padded(name.length) + padded(value.length);
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

/** Entries grow up from `start`, values down from `end`. Returns the hash over all entries. */
function writeEntries(
  target: Buffer,
  start: number,
  end: number,
  base: number,
  xattrs: readonly StoredXattr[],
  hashed: boolean,
): number {
  let at = start;
  let valueAt = end;
  let blockHash = 0;
  for (const { index, name, value } of xattrs) {
    target[at] = name.length;
    target[at + 1] = index;
    target.writeUInt32LE(value.length, at + 8);
    target.write(name, at + ENTRY_HEADER, 'latin1');
    if (value.length > 0) {
      valueAt -= padded(value.length);
      value.copy(target, valueAt);
      target.writeUInt16LE(valueAt - base, at + 2);
    }
    if (hashed) {
      const hash = entryHash(name, target.subarray(valueAt, valueAt + padded(value.length)));
      target.writeUInt32LE(hash, at + 12);
      blockHash = ((blockHash << 16) ^ (blockHash >>> 16) ^ hash) >>> 0;
    }
    at += ENTRY_HEADER + padded(name.length);
  }
  return blockHash;
}

/** Name bytes count as unsigned; e2fsck 1.47 and Linux 6.3 take this and the signed form. */
function entryHash(name: ByteString, value: Buffer): number {
  let hash = 0;
  for (let at = 0; at < name.length; at += 1) {
    hash = (hash << 5) ^ (hash >>> 27) ^ name.charCodeAt(at);
  }
  for (let at = 0; at < value.length; at += 4) {
    hash = (hash << 16) ^ (hash >>> 16) ^ value.readInt32LE(at);
  }
  return hash >>> 0;
}
