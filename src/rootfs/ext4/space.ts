import type { BlockRun } from '../store/block-file.ts';
import { roomBeforeReserved, skipReserved } from '../store/block-allocator.ts';
import { BLOCKS_PER_GROUP, reservedAtGroupStart } from './geometry.ts';

/**
 * The blocks that metadata may use once the data is in place: what the data left free, then
 * everything behind it. A plan can be tried on a clone and thrown away.
 */
export class Space {
  /** Ascending; runs before `#first` are used up. */
  #free: BlockRun[];
  #first = 0;
  #end: number;
  /** No run before this one had so many blocks; runs only get shorter. */
  #searched = { count: 0, upTo: 0 };

  constructor(free: readonly BlockRun[], end: number) {
    this.#free = [...free];
    this.#end = end;
  }

  clone(): Space {
    return new Space(this.freeRuns(), this.#end);
  }

  /** One more than the last block ever taken; blocks from here on are free. */
  get end(): number {
    return this.#end;
  }

  /** Free blocks below `end`, ascending. */
  freeRuns(): BlockRun[] {
    return this.#free.slice(this.#first);
  }

  takeOne(): number {
    const run = this.#free[this.#first];
    if (run === undefined) return this.#takeTail(1);
    if (run.count === 1) this.#first += 1;
    else this.#free[this.#first] = { start: run.start + 1, count: run.count - 1 };
    return run.start;
  }

  /**
   * `count` consecutive blocks: the first free run that is long enough, else the tail. Thousands
   * of calls with one count look at a million crumbs of a hostile image once, not each.
   */
  takeRun(count: number): number {
    const known = count >= this.#searched.count ? this.#searched.upTo : 0;
    for (let at = Math.max(this.#first, known); at < this.#free.length; at += 1) {
      const run = this.#free[at];
      if (run === undefined || run.count < count) continue;
      this.#searched = { count, upTo: at };
      if (run.count === count) this.#free.splice(at, 1);
      else this.#free[at] = { start: run.start + count, count: run.count - count };
      return run.start;
    }
    this.#searched = { count, upTo: this.#free.length };
    return this.#takeTail(count);
  }

  /** `count` blocks behind everything else, in as few runs as the reserved areas allow. */
  takeTailRuns(count: number): BlockRun[] {
    const runs: BlockRun[] = [];
    for (let left = count; left > 0; ) {
      const piece = Math.min(left, roomBeforeReserved(skipReserved(this.#end)));
      runs.push({ start: this.#takeTail(piece), count: piece });
      left -= piece;
    }
    return runs;
  }

  /** Makes the tail start lower where the last blocks are free again. */
  trim(): void {
    for (;;) {
      const last = this.#free.at(-1);
      if (last !== undefined && this.#first < this.#free.length) {
        if (last.start + last.count === this.#end) {
          this.#free.pop();
          this.#searched.upTo = Math.min(this.#searched.upTo, this.#free.length);
          this.#end = last.start;
          continue;
        }
      }
      // A group of which only the reserved front is left goes away as a whole.
      const group = Math.floor((this.#end - 1) / BLOCKS_PER_GROUP);
      const front = group * BLOCKS_PER_GROUP;
      if (group === 0 || this.#end > front + reservedAtGroupStart(group)) return;
      this.#end = front;
    }
  }

  #takeTail(count: number): number {
    for (;;) {
      const start = skipReserved(this.#end);
      const room = roomBeforeReserved(start);
      if (count <= room) {
        this.#end = start + count;
        return start;
      }
      this.#free.push({ start, count: room });
      this.#end = start + room;
    }
  }
}
