import { BuilderdError } from '../../core/errors.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';
import { crc32c, crc32cOfNumber, crc32cOfZeros } from './crc32c.ts';
import { IN_INODE_AT } from './xattr.ts';

export const INODE_SIZE = 256;
/** Bytes of the fields after the first 128: checksum, extra time bits, creation time, … */
export const EXTRA_SIZE = 32;
export const MAX_LINKS = 65000;

export const MODE = {
  fifo: 0o010000,
  char: 0o020000,
  dir: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;
/** The kinds as directory entries number them. */
export const FILE_TYPE = { file: 1, dir: 2, char: 3, block: 4, fifo: 5, symlink: 7 } as const;

export const FLAG_INDEX = 0x1000;
export const FLAG_EXTENTS = 0x80000;

const BLOCK_POINTERS_AT = 40;
const LINKS_AT = 26;
const SECTORS_IN_BLOCK = BLOCK_SIZE / 512;

export interface InodeFields {
  /** Kind and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
  /** Blocks of content, tree and extended attributes. */
  readonly blocks: number;
  readonly flags: number;
  readonly xattrBlock: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
}

/** Fills a zeroed slot; i_block and the space after the fields are the caller's. */
export function writeInode(slot: Buffer, fields: InodeFields): void {
  slot.writeUInt16LE(fields.mode, 0);
  slot.writeUInt16LE(fields.uid & 0xffff, 2);
  slot.writeUInt32LE(fields.size % 2 ** 32, 4);
  slot.writeUInt16LE(fields.gid & 0xffff, 24);
  slot.writeUInt16LE(fields.links, LINKS_AT);
  const sectors = fields.blocks * SECTORS_IN_BLOCK;
  slot.writeUInt32LE(sectors % 2 ** 32, 28);
  slot.writeUInt32LE(fields.flags, 32);
  slot.writeUInt32LE(fields.xattrBlock % 2 ** 32, 104);
  slot.writeUInt32LE(Math.floor(fields.size / 2 ** 32), 108);
  slot.writeUInt16LE(Math.floor(sectors / 2 ** 32), 116);
  slot.writeUInt16LE(Math.floor(fields.xattrBlock / 2 ** 32), 118);
  slot.writeUInt16LE(fields.uid >>> 16, 120);
  slot.writeUInt16LE(fields.gid >>> 16, 122);
  slot.writeUInt16LE(EXTRA_SIZE, 128);
  writeTime(slot, 8, 140, fields.atimeSec, fields.atimeNsec);
  // The image has no change and creation times of its own: the modification time stands for both.
  writeTime(slot, 12, 132, fields.mtimeSec, fields.mtimeNsec);
  writeTime(slot, 16, 136, fields.mtimeSec, fields.mtimeNsec);
  writeTime(slot, 144, 148, fields.mtimeSec, fields.mtimeNsec);
}

/** The 60 bytes of block pointers, extent root, device number or short link target. */
export function blockPointers(slot: Buffer): Buffer {
  return slot.subarray(BLOCK_POINTERS_AT, BLOCK_POINTERS_AT + 60);
}

/** Counts one more name of a file. */
export function addLink(slot: Buffer, path: () => string): void {
  const links = slot.readUInt16LE(LINKS_AT) + 1;
  if (links > MAX_LINKS) {
    throw new BuilderdError(
      'artifact.unrepresentable',
      `Cannot store hard link ${path()} in ext4: a file can have ${MAX_LINKS} names`,
    );
  }
  slot.writeUInt16LE(links, LINKS_AT);
}

/**
 * Devices the way the kernel's ext4 writes them: small numbers in the old form in the first word,
 * others in the new form (12 bits of major, 20 of minor) in the second.
 */
export function writeDevice(slot: Buffer, major: number, minor: number, path: () => string): void {
  if (major > 0xfff || minor > 0xfffff || major < 0 || minor < 0) {
    throw new BuilderdError(
      'artifact.unrepresentable',
      `Cannot store device node ${path()} in ext4: ${major}:${minor} is out of range`,
    );
  }
  if (major < 256 && minor < 256) {
    slot.writeUInt32LE((major << 8) | minor, BLOCK_POINTERS_AT);
  } else {
    const encoded = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
    slot.writeUInt32LE(encoded >>> 0, BLOCK_POINTERS_AT + 4);
  }
}

/** What every checksum that belongs to an inode starts from. Generations are always 0. */
export function inodeSeed(fsSeed: number, ino: number): number {
  return crc32cOfNumber(crc32cOfNumber(fsSeed, ino), 0);
}

/** Last step for a slot: nothing in it may change after this. */
export function sealInode(slot: Buffer, seed: number): void {
  let crc = crc32c(seed, slot, 0, IN_INODE_AT);
  crc =
    slot.readUInt32LE(IN_INODE_AT) === 0
      ? crc32cOfZeros(crc, INODE_SIZE - IN_INODE_AT)
      : crc32c(crc, slot, IN_INODE_AT, INODE_SIZE);
  slot.writeUInt16LE(crc & 0xffff, 124);
  slot.writeUInt16LE(crc >>> 16, 130);
}

/**
 * The format could hold these seconds (3 April 2310 to 22 April 2378), but e2fsck takes them for
 * times before 1970 that a kernel bug of 2007 to 2013 wrote, and calls the disk damaged.
 */
const DOUBTED_FROM = 3 * 2 ** 32 - 2 ** 31;
const DOUBTED_TO = 3 * 2 ** 32;

/** True for a time that the writer replaces by the last one before the doubted years. */
export function isDoubted(sec: number): boolean {
  return sec >= DOUBTED_FROM && sec < DOUBTED_TO;
}

/** 34 bits of seconds: the low 32 signed in the old field, two more beside the nanoseconds. */
function writeTime(slot: Buffer, at: number, extraAt: number, sec: number, nsec: number): void {
  if (isDoubted(sec)) {
    writeTime(slot, at, extraAt, DOUBTED_FROM - 1, 999_999_999);
    return;
  }
  const low = sec | 0;
  const epoch = (sec - low) / 2 ** 32;
  slot.writeInt32LE(low, at);
  slot.writeUInt32LE(((nsec << 2) | (epoch & 3)) >>> 0, extraAt);
}
