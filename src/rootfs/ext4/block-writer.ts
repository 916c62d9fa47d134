import type { OpenFile } from '../../core/open-file.ts';
import { asBuilderdError, BuilderdError } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';

const ARENA_BLOCKS = 256;
const DOING = 'write the metadata of the ext4 image';

interface Segment {
  readonly block: number;
  readonly arena: Buffer;
  readonly offset: number;
  count: number;
}

/**
 * Gathers metadata blocks and writes them in pieces of up to 1 MiB. `block()` is synchronous, so
 * that the encoders need not await; the caller drains when the backlog grows.
 */
export class BlockWriter {
  readonly #handle: OpenFile;
  readonly #signal: AbortSignal;
  #segments: Segment[] = [];
  #arena = Buffer.alloc(0);
  #used = 0;

  constructor(handle: OpenFile, signal: AbortSignal) {
    this.#handle = handle;
    this.#signal = signal;
  }

  /** A zeroed 4 KiB view that becomes block `number`; to be filled before the next drain. */
  block(number: number): Buffer {
    if (this.#used === this.#arena.length) {
      this.#arena = Buffer.alloc(ARENA_BLOCKS * BLOCK_SIZE);
      this.#used = 0;
    }
    const offset = this.#used;
    this.#used += BLOCK_SIZE;
    const last = this.#segments.at(-1);
    if (last !== undefined && last.arena === this.#arena && last.block + last.count === number) {
      last.count += 1;
    } else {
      this.#segments.push({ block: number, arena: this.#arena, offset, count: 1 });
    }
    return this.#arena.subarray(offset, offset + BLOCK_SIZE);
  }

  /** True when enough is waiting to be worth a drain. */
  get isFull(): boolean {
    return this.#segments.length > 0 && this.#segments[0]?.arena !== this.#arena;
  }

  async drain(): Promise<void> {
    const segments = this.#segments;
    this.#segments = [];
    for (const { arena, offset, count, block } of segments) {
      await this.write(arena.subarray(offset, offset + count * BLOCK_SIZE), block);
    }
    // Everything in the arena is on its way: it serves again, so that memory stays flat.
    this.#arena.fill(0, 0, this.#used);
    this.#used = 0;
  }

  /** Writes whole blocks at once, past the gathering. */
  async write(bytes: Buffer, block: number): Promise<void> {
    throwIfAborted(this.#signal, DOING);
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#handle
        .write(bytes, done, bytes.length - done, block * BLOCK_SIZE + done)
        .catch((reason: unknown) => {
          throw asBuilderdError(reason, DOING);
        });
      done += bytesWritten;
    }
  }

  async read(block: number): Promise<Buffer> {
    throwIfAborted(this.#signal, DOING);
    const bytes = Buffer.alloc(BLOCK_SIZE);
    const { bytesRead } = await this.#handle
      .read(bytes, 0, BLOCK_SIZE, block * BLOCK_SIZE)
      .catch((reason: unknown) => {
        throw asBuilderdError(reason, DOING);
      });
    if (bytesRead !== BLOCK_SIZE) {
      throw new BuilderdError('internal', `Cannot ${DOING}: block ${block} is cut off`);
    }
    return bytes;
  }

  async zero(start: number, count: number): Promise<void> {
    const zeros = Buffer.alloc(Math.min(count, ARENA_BLOCKS) * BLOCK_SIZE);
    for (let done = 0; done < count; done += ARENA_BLOCKS) {
      const piece = Math.min(ARENA_BLOCKS, count - done);
      await this.write(zeros.subarray(0, piece * BLOCK_SIZE), start + done);
    }
  }
}
