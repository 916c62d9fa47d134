import { BLOCK_SIZE } from '../store/block-file.ts';

const MAGIC = 0xc03b3998;
const SUPERBLOCK_V2 = 4;

/** [disks smaller than so many GiB, blocks of their journal]: what mke2fs takes. */
const SIZES = [
  [1 / 8, 1024],
  [1, 4096],
  [2, 8192],
  [16, 16384],
  [32, 32768],
  [64, 65536],
  [128, 131072],
] as const;
const LARGEST = 262144;

/** Blocks of the journal for a disk of so many bytes. jbd2 wants 1024 at least. */
export function journalBlocks(diskBytes: number): number {
  return SIZES.find(([gib]) => diskBytes < gib * 2 ** 30)?.[1] ?? LARGEST;
}

/** The first block of an empty journal. jbd2 is big-endian. */
export function writeJournalSuperblock(block: Buffer, blocks: number, uuid: Buffer): void {
  block.writeUInt32BE(MAGIC, 0);
  block.writeUInt32BE(SUPERBLOCK_V2, 4);
  block.writeUInt32BE(BLOCK_SIZE, 12);
  block.writeUInt32BE(blocks, 16);
  block.writeUInt32BE(1, 20); // first block of the log
  block.writeUInt32BE(1, 24); // first commit to expect
  uuid.copy(block, 48, 0, 16);
  block.writeUInt32BE(1, 64); // one user
}
