import { INODE_SIZE, inodeSeed, sealInode } from './inode.ts';

const CHUNK_INODES = 4096;

/**
 * All inodes of the image in memory, 256 bytes each, because where the table lies is known only
 * when everything else has its place.
 */
export class InodeTable {
  readonly #chunks: Buffer[] = [];
  #highest = 0;

  /** Highest inode number in use. */
  get highest(): number {
    return this.#highest;
  }

  /** The slot of inode `ino` (from 1), zeroed when new. */
  slot(ino: number): Buffer {
    this.#highest = Math.max(this.#highest, ino);
    const index = ino - 1;
    const chunk = (this.#chunks[Math.floor(index / CHUNK_INODES)] ??= Buffer.alloc(
      CHUNK_INODES * INODE_SIZE,
    ));
    const at = (index % CHUNK_INODES) * INODE_SIZE;
    return chunk.subarray(at, at + INODE_SIZE);
  }

  /** Computes the checksum of every inode that was written. */
  seal(fsSeed: number): void {
    for (let ino = 1; ino <= this.#highest; ino += 1) {
      const slot = this.slot(ino);
      // An inode without a mode is a reserved one that nobody uses: it stays all zeros.
      if (slot.readUInt16LE(0) !== 0) sealInode(slot, inodeSeed(fsSeed, ino));
    }
  }

  /** The bytes of inodes [first, last] that are in memory, in pieces, with their first inode. */
  *pieces(first: number, last: number): Generator<{ readonly first: number; bytes: Buffer }> {
    const end = Math.min(last, this.#chunks.length * CHUNK_INODES);
    for (let ino = first; ino <= end; ) {
      const at = (ino - 1) % CHUNK_INODES;
      const count = Math.min(CHUNK_INODES - at, end - ino + 1);
      const chunk = this.#chunks[Math.floor((ino - 1) / CHUNK_INODES)];
      if (chunk !== undefined) {
        yield { first: ino, bytes: chunk.subarray(at * INODE_SIZE, (at + count) * INODE_SIZE) };
      }
      ino += count;
    }
  }
}
