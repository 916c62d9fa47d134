import type { OpenFile } from '../../core/open-file.ts';

/** Bytes in a block of the store and of every ext4 image that we write. */
export const BLOCK_SIZE = 4096;

/** A run of consecutive blocks. */
export interface BlockRun {
  readonly start: number;
  readonly count: number;
}

/**
 * Hands out blocks of a growing file from low to high, stepping over the places where ext4 wants
 * its superblock and descriptor copies, so that the file can become an ext4 image by adding
 * metadata only. Deterministic: the same calls give the same blocks.
 */
export interface BlockAllocator {
  /** Takes `count` blocks, as few runs as possible. Throws `archive.limit` past the size limit. */
  allocate(count: number): BlockRun[];
  /** Gives blocks back; later calls use them first. */
  free(run: BlockRun): void;
  /** One more than the highest block ever taken or reserved below it. */
  readonly end: number;
  /** Blocks below `end` that nobody holds and that are not reserved (freed and not reused). */
  freeRuns(): readonly BlockRun[];
}

/** The open file behind the store: the future ext4 image, or an unlinked scratch file. */
export interface BlockFile {
  readonly handle: OpenFile;
  readonly allocator: BlockAllocator;
  /** Gone when the conversion ends: writing it to disk early would only slow the others down. */
  readonly isScratch?: boolean;
}
