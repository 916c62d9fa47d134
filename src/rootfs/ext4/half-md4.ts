import type { ByteString } from '../../core/bytes.ts';

/** The largest hash value means "end of directory" to readers, so no name may have it. */
const END_OF_DIRECTORY = 0xfffffffe;

/**
 * The hash that orders an indexed directory: half of MD4 over the name, characters taken as
 * unsigned (superblock flag UNSIGNED_HASH). One hasher serves one image; not reentrant.
 */
export class DirectoryHasher {
  readonly #seed: Int32Array;
  readonly #words = new Int32Array(8);
  readonly #state = new Int32Array(4);

  constructor(seed: Buffer) {
    const words = [0, 4, 8, 12].map((at) => seed.readInt32LE(at));
    this.#seed = Int32Array.from(
      words.some((word) => word !== 0) ? words : [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476],
    );
  }

  /** An even number, 0 … 0xfffffffc. */
  hash(name: ByteString): number {
    this.#state.set(this.#seed);
    for (let at = 0; at < name.length; at += 32) {
      fillWords(this.#words, name, at);
      transform(this.#state, this.#words);
    }
    const hash = ((this.#state[1] ?? 0) & ~1) >>> 0;
    return hash === END_OF_DIRECTORY ? END_OF_DIRECTORY - 2 : hash;
  }
}

/** Up to 32 bytes from `start`, four to a word, filled up with a pattern of the length left. */
function fillWords(words: Int32Array, name: ByteString, start: number): void {
  const left = name.length - start;
  const length = left & 255;
  const pad = length | (length << 8) | (length << 16) | (length << 24);
  const end = Math.min(left, 32);
  let at = 0;
  for (let word = 0; word < 8; word += 1) {
    let value = pad;
    for (let byte = 0; byte < 4 && at < end; byte += 1, at += 1) {
      value = ((value << 8) + name.charCodeAt(start + at)) | 0;
    }
    words[word] = value;
  }
}

const ROUND_1 = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const ROUND_2 = [1, 3, 5, 7, 0, 2, 4, 6] as const;
const ROUND_3 = [3, 7, 2, 6, 1, 5, 0, 4] as const;
const SHIFTS_1 = [3, 7, 11, 19] as const;
const SHIFTS_2 = [3, 5, 9, 13] as const;
const SHIFTS_3 = [3, 9, 11, 15] as const;
/** Square roots of 2 and 3, as MD4 (RFC 1320) has them. */
const K2 = 0x5a827999;
const K3 = 0x6ed9eba1;

function transform(state: Int32Array, words: Int32Array): void {
  let a = state[0] ?? 0;
  let b = state[1] ?? 0;
  let c = state[2] ?? 0;
  let d = state[3] ?? 0;
  for (let step = 0; step < 24; step += 1) {
    const at = step & 7;
    let mixed: number;
    let shift: number;
    if (step < 8) {
      mixed = (d ^ (b & (c ^ d))) + (words[ROUND_1[at] ?? 0] ?? 0);
      shift = SHIFTS_1[step & 3] ?? 0;
    } else if (step < 16) {
      mixed = (b & c) + ((b ^ c) & d) + (words[ROUND_2[at] ?? 0] ?? 0) + K2;
      shift = SHIFTS_2[step & 3] ?? 0;
    } else {
      mixed = (b ^ c ^ d) + (words[ROUND_3[at] ?? 0] ?? 0) + K3;
      shift = SHIFTS_3[step & 3] ?? 0;
    }
    const sum = (a + mixed) | 0;
    const rotated = (sum << shift) | (sum >>> (32 - shift));
    a = d;
    d = c;
    c = b;
    b = rotated;
  }
  state[0] = (state[0] ?? 0) + a;
  state[1] = (state[1] ?? 0) + b;
  state[2] = (state[2] ?? 0) + c;
  state[3] = (state[3] ?? 0) + d;
}
