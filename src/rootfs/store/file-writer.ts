import { writeSync } from 'node:fs';
import type { ExtentList } from '../tree.ts';
import { BLOCK_SIZE, type BlockFile, type BlockRun } from './block-file.ts';
import type { PieceList } from './piece-writer.ts';

/** Room at the end of a slab for blocks that a slab border or an odd sparse map cut in two. */
export const CARRY_BLOCKS = 64;

/**
 * Places the content of one file after another into the block file. Whole zero blocks become
 * holes, wherever slab borders fall, so equal content always gives equal extents. Writing itself
 * happens later, from the piece list.
 */
export class FileWriter {
  readonly #file: BlockFile;
  #slab: Buffer = Buffer.alloc(0);
  #pieces: PieceList | undefined;
  #carryAt = 0;
  readonly #carry = Buffer.alloc(BLOCK_SIZE);
  /** Logical block that the carry holds, or -1. */
  #carryBlock = -1;
  #size = 0;
  #extents: number[] = [];

  constructor(file: BlockFile) {
    this.#file = file;
  }

  /** `slab` holds `dataBytes` of content and then CARRY_BLOCKS blocks of room for carries. */
  useSlab(slab: Buffer, dataBytes: number, pieces: PieceList): void {
    this.#slab = slab;
    this.#pieces = pieces;
    this.#carryAt = dataBytes;
  }

  begin(size: number): void {
    this.#size = size;
    this.#extents = [];
    this.#carryBlock = -1;
  }

  /** Content `slab[start, end)` at `offset`; offsets ascend. */
  write(slab: Buffer, start: number, end: number, offset: number): void {
    let from = start;
    let at = offset;
    while (from < end) {
      const block = Math.floor(at / BLOCK_SIZE);
      const inBlock = at - block * BLOCK_SIZE;
      const left = end - from;
      if (this.#carryBlock >= 0 && this.#carryBlock !== block) this.#flushCarry();
      const isTail = inBlock === 0 && at + left === this.#size && left < BLOCK_SIZE;
      if (isTail) {
        if (!isZero(slab, from, end)) this.#place(block, 1, from, left);
        return;
      }
      if (inBlock !== 0 || left < BLOCK_SIZE) {
        const count = Math.min(BLOCK_SIZE - inBlock, left);
        this.#addToCarry(slab, from, count, block, inBlock);
        from += count;
        at += count;
        continue;
      }
      const blocks = Math.floor(left / BLOCK_SIZE);
      this.#placeNonZero(slab, from, block, blocks);
      from += blocks * BLOCK_SIZE;
      at += blocks * BLOCK_SIZE;
    }
  }

  finish(): ExtentList {
    this.#flushCarry();
    return this.#extents;
  }

  #placeNonZero(slab: Buffer, from: number, block: number, blocks: number): void {
    let runStart = -1;
    for (let i = 0; i <= blocks; i++) {
      const at = from + i * BLOCK_SIZE;
      const isData = i < blocks && !isZero(slab, at, at + BLOCK_SIZE);
      if (isData && runStart < 0) runStart = i;
      else if (!isData && runStart >= 0) {
        const count = i - runStart;
        this.#place(block + runStart, count, from + runStart * BLOCK_SIZE, count * BLOCK_SIZE);
        runStart = -1;
      }
    }
  }

  #addToCarry(slab: Buffer, from: number, count: number, block: number, inBlock: number): void {
    if (this.#carryBlock < 0) {
      this.#carryBlock = block;
      this.#carry.fill(0);
    }
    slab.copy(this.#carry, inBlock, from, from + count);
    if (inBlock + count === BLOCK_SIZE) this.#flushCarry();
  }

  #flushCarry(): void {
    const block = this.#carryBlock;
    if (block < 0) return;
    this.#carryBlock = -1;
    if (isZero(this.#carry, 0, BLOCK_SIZE)) return;
    if (this.#carryAt + BLOCK_SIZE <= this.#slab.length) {
      this.#carry.copy(this.#slab, this.#carryAt);
      this.#place(block, 1, this.#carryAt, BLOCK_SIZE);
      this.#carryAt += BLOCK_SIZE;
      return;
    }
    // Only a sparse map of many odd pieces comes here. The block was never used in this slab:
    // freed blocks return between slabs, so no queued piece can overwrite it.
    const [run] = this.#allocate(block, 1);
    if (run === undefined) return;
    const at = run.start * BLOCK_SIZE;
    for (let done = 0; done < BLOCK_SIZE; ) {
      done += writeSync(this.#file.handle.fd, this.#carry, done, BLOCK_SIZE - done, at + done);
    }
  }

  #place(block: number, count: number, from: number, bytes: number): void {
    let left = bytes;
    let source = from;
    for (const run of this.#allocate(block, count)) {
      const length = Math.min(left, run.count * BLOCK_SIZE);
      this.#pieces?.add(run.start * BLOCK_SIZE, source, length);
      source += length;
      left -= length;
    }
  }

  #allocate(block: number, count: number): readonly BlockRun[] {
    const runs = this.#file.allocator.allocate(count);
    let logical = block;
    for (const run of runs) {
      const e = this.#extents;
      const n = e.length;
      const joins =
        n > 0 &&
        (e[n - 3] ?? 0) + (e[n - 1] ?? 0) === logical &&
        (e[n - 2] ?? 0) + (e[n - 1] ?? 0) === run.start;
      if (joins) e[n - 1] = (e[n - 1] ?? 0) + run.count;
      else e.push(logical, run.start, run.count);
      logical += run.count;
    }
    return runs;
  }
}

const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE);

function isZero(bytes: Buffer, start: number, end: number): boolean {
  // Most data differs at once; a native compare settles the rest.
  if (bytes[start] !== 0 || bytes[end - 1] !== 0) return false;
  return bytes.compare(ZERO_BLOCK, 0, end - start, start, end) === 0;
}
