import { BuilderdError } from '../../core/errors.ts';
import type { BlockRun } from './block-file.ts';

/**
 * Free runs of blocks, neighbours joined. Every operation is logarithmic, because a hostile
 * layer can make the list as long as it has duplicate files: one heap (lowest start first) for
 * each power of two of the length, entries checked against the maps when they surface.
 */
export class FreeRuns {
  readonly #countByStart = new Map<number, number>();
  readonly #startByEnd = new Map<number, number>();
  readonly #heaps: number[][] = [];

  add(run: BlockRun): void {
    let { start, count } = run;
    if (this.#countByStart.has(start) || this.#startByEnd.has(start + count)) {
      throw new BuilderdError('internal', `Cannot free blocks ${start}+${count}: already free`);
    }
    const before = this.#startByEnd.get(start);
    if (before !== undefined) {
      this.#remove(before);
      count += start - before;
      start = before;
    }
    const after = this.#countByStart.get(start + count);
    if (after !== undefined) {
      this.#remove(start + count);
      count += after;
    }
    this.#countByStart.set(start, count);
    this.#startByEnd.set(start + count, start);
    push((this.#heaps[sizeClass(count)] ??= []), start);
  }

  /** Removes and returns a run of at least `count` blocks: the smallest class, the lowest start. */
  takeAtLeast(count: number): BlockRun | undefined {
    // Of the class that `count` falls into only the lowest run is tried, to stay logarithmic;
    // every run of a higher class is long enough.
    for (let size = sizeClass(count); size < this.#heaps.length; size += 1) {
      const start = this.#lowest(size);
      const found = start === undefined ? undefined : this.#countByStart.get(start);
      if (start !== undefined && found !== undefined && found >= count) {
        this.#remove(start);
        return { start, count: found };
      }
    }
    return undefined;
  }

  sorted(): BlockRun[] {
    return [...this.#countByStart]
      .map(([start, count]) => ({ start, count }))
      .sort((a, b) => a.start - b.start);
  }

  #remove(start: number): void {
    const count = this.#countByStart.get(start) ?? 0;
    this.#countByStart.delete(start);
    this.#startByEnd.delete(start + count);
  }

  /** Drops entries of the heap that are no longer such a run. */
  #lowest(size: number): number | undefined {
    const heap = this.#heaps[size] ?? [];
    for (;;) {
      const start = heap[0];
      if (start === undefined) return undefined;
      const count = this.#countByStart.get(start);
      if (count !== undefined && sizeClass(count) === size) return start;
      pop(heap);
    }
  }
}

function sizeClass(count: number): number {
  return Math.floor(Math.log2(count));
}

function push(heap: number[], value: number): void {
  let at = heap.length;
  heap.push(value);
  while (at > 0) {
    const parent = (at - 1) >>> 1;
    const above = heap[parent] ?? 0;
    if (above <= value) break;
    heap[at] = above;
    at = parent;
  }
  heap[at] = value;
}

function pop(heap: number[]): void {
  const value = heap.pop();
  if (value === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if ((heap[child + 1] ?? Infinity) < (heap[child] ?? Infinity)) child += 1;
    const below = heap[child] ?? 0;
    if (below >= value) break;
    heap[at] = below;
    at = child;
  }
  heap[at] = value;
}
