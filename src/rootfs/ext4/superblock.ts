import { CRC_START, crc32c } from './crc32c.ts';
import { BLOCKS_PER_GROUP, DESCRIPTOR_SIZE } from './geometry.ts';
import { EXTRA_SIZE, INODE_SIZE } from './inode.ts';

export const SUPERBLOCK_SIZE = 1024;

const COMPAT = { hasJournal: 0x4, extAttr: 0x8, resizeInode: 0x10, dirIndex: 0x20 } as const;
const INCOMPAT = { filetype: 0x2, extents: 0x40, bits64: 0x80, flexBg: 0x200 } as const;
const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  hugeFile: 0x8,
  dirNlink: 0x20,
  extraIsize: 0x40,
  metadataCsum: 0x400,
} as const;

export interface SuperblockFields {
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly inodesPerGroup: number;
  readonly groupsPerFlexLog2: number;
  readonly reservedDescriptorBlocks: number;
  readonly uuid: Buffer;
  readonly hashSeed: Buffer;
  /** At most 16 bytes. */
  readonly label: Buffer;
  readonly timestampSec: number;
  /** Size and i_block of the journal, kept as a copy for repair. */
  readonly journal: { readonly size: number; readonly pointers: Buffer } | undefined;
}

/** The copy that belongs to `group` (0 is the primary one). Offsets: the kernel's ext4 super.rst. */
export function encodeSuperblock(fields: SuperblockFields, group: number): Buffer {
  const block = Buffer.alloc(SUPERBLOCK_SIZE);
  const u16 = (value: number, at: number): number => block.writeUInt16LE(value, at);
  const u32 = (value: number, at: number): number => block.writeUInt32LE(value % 2 ** 32, at);
  const high = (value: number, at: number): number =>
    block.writeUInt32LE(Math.floor(value / 2 ** 32), at);
  u32(fields.inodes, 0);
  u32(fields.blocks, 4);
  u32(fields.freeBlocks, 12);
  u32(fields.freeInodes, 16);
  u32(2, 24); // block size 1024 << 2
  u32(2, 28); // cluster size, the same
  u32(BLOCKS_PER_GROUP, 32);
  u32(BLOCKS_PER_GROUP, 36);
  u32(fields.inodesPerGroup, 40);
  writeTimes(block, Math.max(fields.timestampSec, 0));
  u16(0xffff, 54); // no check after so many mounts
  u16(0xef53, 56);
  u16(1, 58); // clean
  u16(1, 60); // on errors: continue
  u32(1, 76); // dynamic revision
  u32(11, 84); // first inode that is not reserved
  u16(INODE_SIZE, 88);
  u16(group, 90);
  const journal = fields.journal === undefined ? 0 : COMPAT.hasJournal;
  u32(COMPAT.extAttr | COMPAT.resizeInode | COMPAT.dirIndex | journal, 92);
  u32(anyOf(INCOMPAT), 96);
  u32(anyOf(RO_COMPAT), 100);
  fields.uuid.copy(block, 104, 0, 16);
  fields.label.copy(block, 120, 0, 16);
  u16(fields.reservedDescriptorBlocks, 206);
  if (fields.journal !== undefined) {
    u32(8, 224);
    block[253] = 1; // the copy below is valid
    fields.journal.pointers.copy(block, 268, 0, 60);
    high(fields.journal.size, 268 + 60);
    u32(fields.journal.size, 268 + 64);
  }
  fields.hashSeed.copy(block, 236, 0, 16);
  block[252] = 1; // half MD4
  u16(DESCRIPTOR_SIZE, 254);
  u32(0xc, 256); // mount with user_xattr and acl
  high(fields.blocks, 336);
  high(fields.freeBlocks, 344);
  u16(EXTRA_SIZE, 348);
  u16(EXTRA_SIZE, 350);
  u32(2, 352); // names are hashed as unsigned bytes
  block[372] = fields.groupsPerFlexLog2;
  block[373] = 1; // checksums are CRC-32C
  u32(crc32c(CRC_START, block, 0, 1020), 1020);
  return block;
}

function writeTimes(block: Buffer, sec: number): void {
  // Last write, last check, creation; the bits above 32 each have their own byte.
  for (const [at, highAt] of [
    [48, 628],
    [64, 631],
    [264, 630],
  ] as const) {
    block.writeUInt32LE(sec % 2 ** 32, at);
    block[highAt] = Math.floor(sec / 2 ** 32);
  }
}

function anyOf(flags: Readonly<Record<string, number>>): number {
  return Object.values(flags).reduce((all, flag) => all | flag, 0);
}
