import type { Addon } from '../../../native/addon.ts';
import type { Digest } from '../../core/digest.ts';
import { openDigest } from '../layer/digest-stream.ts';
import { SlabPool } from '../layer/slab-pool.ts';
import type { BlockFile } from '../store/block-file.ts';
import { eachRange, readPieces } from '../store/content.ts';
import { PieceList } from '../store/piece-writer.ts';
import type { Inode } from '../tree.ts';
import type { OutputFile } from './output-file.ts';

const SLAB_BYTES = 1024 * 1024;
const SLABS = 8;

/**
 * Writes a file from front to back, slab by slab: bytes given directly and content read from the
 * block file. Reading, hashing and writing of different slabs overlap on libuv's pool.
 */
export class SlabOutput {
  readonly #addon: Addon | undefined;
  readonly #source: BlockFile;
  readonly #target: OutputFile;
  readonly #slabs: SlabPool;
  readonly #digest;
  #slab: Buffer = Buffer.alloc(0);
  #used = 0;
  #reads = new PieceList();
  #position = 0;
  #filled: Promise<unknown> = Promise.resolve();
  #hashed: Promise<void> = Promise.resolve();
  #written: Promise<void> = Promise.resolve();

  constructor(addon: Addon | undefined, source: BlockFile, target: OutputFile) {
    this.#addon = addon;
    this.#source = source;
    this.#target = target;
    this.#digest = openDigest(addon, 'sha256');
    const allocate =
      addon === undefined ? undefined : (bytes: number) => addon.alignedBuffer(bytes);
    this.#slabs = new SlabPool(SLABS, SLAB_BYTES, 0, allocate);
  }

  /** Appends bytes. Await the result when there is one: a slab went out. */
  put(bytes: Buffer): Promise<void> | undefined {
    if (bytes.length <= this.#slab.length - this.#used) {
      bytes.copy(this.#slab, this.#used);
      this.#used += bytes.length;
      return undefined;
    }
    return this.#putLarge(bytes);
  }

  /** Appends the content of a file; holes become zeros. */
  content(inode: Inode): Promise<void> | undefined {
    if (inode.size === 0) return undefined;
    if (inode.size <= this.#slab.length - this.#used) {
      this.#take(inode, 0, inode.size);
      return undefined;
    }
    return this.#contentLarge(inode);
  }

  async finish(): Promise<{ sizeBytes: number; digest: Digest }> {
    if (this.#used > 0) this.#send();
    await Promise.all([this.#hashed, this.#written]);
    return { sizeBytes: this.#position, digest: this.#digest.digest() };
  }

  /** Waits for jobs under way after a fault, so that no buffer or descriptor is still in use. */
  async settle(): Promise<void> {
    await Promise.allSettled([this.#filled, this.#hashed, this.#written]);
  }

  async #putLarge(bytes: Buffer): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      await this.#room();
      const count = bytes.copy(this.#slab, this.#used, done);
      this.#used += count;
      done += count;
    }
  }

  async #contentLarge(inode: Inode): Promise<void> {
    for (let at = 0; at < inode.size; ) {
      await this.#room();
      const count = Math.min(inode.size - at, this.#slab.length - this.#used);
      this.#take(inode, at, at + count);
      at += count;
    }
  }

  #take(inode: Inode, start: number, end: number): void {
    const base = this.#used - start;
    eachRange(
      inode,
      start,
      end,
      (at, length, storeOffset) => this.#reads.add(storeOffset, base + at, length),
      (at, length) => this.#slab.fill(0, base + at, base + at + length),
    );
    this.#used += end - start;
  }

  async #room(): Promise<void> {
    if (this.#used < this.#slab.length) return;
    if (this.#used > 0) this.#send();
    this.#slab = await this.#slabs.take();
    await this.#failFast();
  }

  /** A job that failed shows now instead of at the end. */
  async #failFast(): Promise<void> {
    await Promise.race([this.#written, Promise.resolve()]);
    await Promise.race([this.#hashed, Promise.resolve()]);
  }

  #send(): void {
    const slab = this.#slab;
    const length = this.#used;
    const position = this.#position;
    const reads = this.#reads;
    this.#reads = new PieceList();
    this.#used = 0;
    this.#slab = Buffer.alloc(0);
    this.#position += length;
    const filled = readPieces(this.#addon, this.#source.handle, slab, reads);
    this.#filled = Promise.allSettled([this.#filled, filled]);
    this.#hashed = Promise.all([this.#hashed, filled]).then(() =>
      this.#digest.update(slab, length),
    );
    // Positions are explicit: writes need not wait for each other.
    const write = filled.then(() => this.#target.write(slab, length, position));
    this.#written = Promise.all([this.#written, write]).then(() => undefined);
    // Faults show in the loop and in finish(); until then nobody may call them unhandled.
    void Promise.allSettled([this.#written]);
    void Promise.allSettled([this.#hashed, write]).then(() => this.#slabs.give(slab));
  }
}
