import { BuilderdError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { BLOCKS_PER_GROUP, nextSuperblockCopy, reservedAtGroupStart } from '../ext4/geometry.ts';
import { BLOCK_SIZE, type BlockAllocator, type BlockRun } from './block-file.ts';
import { FreeRuns } from './free-runs.ts';

/** A large request may be pieced together from freed runs, but from few and not from crumbs. */
const MAX_PIECES = 8;
const MIN_PIECE = 16;

/** Allocates from freed runs first, lowest fit, then from the end of the file. */
export class FileBlockAllocator implements BlockAllocator {
  readonly #free = new FreeRuns();
  readonly #limit: number;
  #end = 0;

  /** `limit`: no block at or beyond it is ever handed out. */
  constructor({ limit }: { readonly limit: number }) {
    this.#limit = limit;
    this.#end = skipReserved(0);
  }

  get end(): number {
    return this.#end;
  }

  allocate(count: number): BlockRun[] {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw new BuilderdError('internal', `Cannot allocate ${count} blocks: not a count`);
    }
    if (count === 0) return [];
    const whole = this.#free.takeAtLeast(count);
    if (whole !== undefined) return [this.#keepFront(whole, count)];

    const runs: BlockRun[] = [];
    let left = count;
    const smallestUseful = Math.max(Math.ceil(count / MAX_PIECES), MIN_PIECE);
    while (left > smallestUseful) {
      const piece = this.#free.takeAtLeast(smallestUseful);
      if (piece === undefined) break;
      const kept = this.#keepFront(piece, Math.min(left, piece.count));
      runs.push(kept);
      left -= kept.count;
    }
    try {
      this.#extend(runs, left);
    } catch (reason) {
      for (const run of runs) this.#free.add(run);
      throw reason;
    }
    return runs;
  }

  free(run: BlockRun): void {
    if (run.count <= 0 || run.start < 0 || run.start + run.count > this.#end) {
      throw new BuilderdError(
        'internal',
        `Cannot free blocks ${run.start}+${run.count}: they were never allocated`,
      );
    }
    this.#free.add(run);
  }

  freeRuns(): readonly BlockRun[] {
    return this.#free.sorted();
  }

  #keepFront(run: BlockRun, count: number): BlockRun {
    if (run.count > count) this.#free.add({ start: run.start + count, count: run.count - count });
    return { start: run.start, count };
  }

  #extend(runs: BlockRun[], count: number): void {
    const added: BlockRun[] = [];
    let end = this.#end;
    for (let left = count; left > 0; ) {
      const start = skipReserved(end);
      const take = Math.min(left, roomBeforeReserved(start));
      end = start + take;
      left -= take;
      if (end > this.#limit) {
        throw new BuilderdError(
          'archive.limit',
          `Cannot store the content: it needs more than ${formatBytes(this.#limit * BLOCK_SIZE)}`,
          { details: { limitBytes: this.#limit * BLOCK_SIZE } },
        );
      }
      added.push({ start, count: take });
    }
    this.#end = end;
    runs.push(...added);
  }
}

/** The first block at or after `block` that data may use. */
export function skipReserved(block: number): number {
  const group = Math.floor(block / BLOCKS_PER_GROUP);
  return Math.max(block, group * BLOCKS_PER_GROUP + reservedAtGroupStart(group));
}

/** Blocks from `block` (not reserved itself) up to the next reserved area. */
export function roomBeforeReserved(block: number): number {
  const group = Math.floor(block / BLOCKS_PER_GROUP);
  return nextSuperblockCopy(group) * BLOCKS_PER_GROUP - block;
}
