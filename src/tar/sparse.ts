import type { ByteString } from '../core/bytes.ts';
import { malformed, overLimit } from './faults.ts';
import { parseNumeric } from './header-block.ts';

/** Where the stored bytes of a sparse file belong: offset, length, offset, length, … */
export type SparseMap = readonly number[];

/**
 * Appends the (offset, length) pairs of an old GNU sparse header or extension block. A pair whose
 * offset field starts with a NUL ends the list (GNU tar manual, "Extensions to ustar").
 */
export function readOldGnuPairs(
  block: Buffer,
  start: number,
  count: number,
  map: number[],
  owner: ByteString,
  maxSegments: number,
): void {
  for (let i = 0; i < count; i++) {
    const at = start + i * 24;
    if (block[at] === 0) return;
    if (map.length >= 2 * maxSegments) throw tooManySegments(owner, maxSegments);
    map.push(parseNumeric(block, at, 12), parseNumeric(block, at + 12, 12));
  }
}

/**
 * The map of version 1.0: decimal numbers, one a line, before the content: the number of
 * segments, then each one's offset and length.
 */
export class TextMapReader {
  readonly map: number[] = [];
  readonly #owner: ByteString;
  readonly #maxSegments: number;
  /** Numbers still to come, the count itself included; known once the count is read. */
  #left = -1;
  #value = 0;
  #digits = 0;

  constructor(owner: ByteString, maxSegments: number) {
    this.#owner = owner;
    this.#maxSegments = maxSegments;
  }

  get done(): boolean {
    return this.#left === 0;
  }

  /** Reads until the map is complete or the bytes end; returns how many bytes it took. */
  read(buffer: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && this.#left !== 0) {
      const byte = buffer[at++] ?? 0;
      if (byte === 0x0a) this.#number();
      else if (byte < 0x30 || byte > 0x39)
        throw malformed(this.#owner, 'its sparse map holds text');
      else {
        this.#value = this.#value * 10 + byte - 0x30;
        // 2^53 has 16 digits: longer numbers are nonsense, and would keep the map from ending.
        if (++this.#digits > 16) throw overLimit(this.#owner, 'its sparse map holds a huge number');
      }
    }
    return at - start;
  }

  #number(): void {
    if (this.#digits === 0) throw malformed(this.#owner, 'its sparse map has an empty line');
    if (this.#left < 0) {
      if (this.#value > this.#maxSegments) throw tooManySegments(this.#owner, this.#maxSegments);
      this.#left = 2 * this.#value;
    } else {
      this.map.push(this.#value);
      this.#left--;
    }
    this.#value = 0;
    this.#digits = 0;
  }
}

/** Segments must ascend, not overlap, end within the file, and use the stored bytes up. */
export function checkSparseMap(
  map: SparseMap,
  realSize: number,
  storedBytes: number,
  owner: ByteString,
): void {
  let end = 0;
  let stored = 0;
  for (let i = 0; i < map.length; i += 2) {
    const offset = map[i] ?? Number.NaN;
    const length = map[i + 1] ?? Number.NaN;
    // Also false for NaN.
    if (!(offset >= end && length >= 0 && offset + length <= realSize)) {
      throw malformed(owner, 'its sparse map is out of order or reaches beyond the file');
    }
    end = offset + length;
    stored += length;
  }
  if (stored !== storedBytes) {
    throw malformed(owner, `its sparse map names ${stored} bytes, but ${storedBytes} are stored`);
  }
}

function tooManySegments(owner: ByteString, max: number): Error {
  return overLimit(owner, `its sparse map has more than ${max} segments`);
}
