import { createHash } from 'node:crypto';
import type { BlockWriter } from './block-writer.ts';
import { crc32c, crc32cOfNumber } from './crc32c.ts';
import type { Space } from './space.ts';

const USERS_AT = 4;
const CHECKSUM_AT = 16;
/** EXT4_XATTR_REFCOUNT_MAX of the kernel. */
const MAX_USERS = 1024;

interface SharedBlock {
  readonly number: number;
  users: number;
}

/**
 * External attribute blocks, equal ones shared. Only a digest of each is kept in memory: a block
 * with several users is read back at the end to get its count.
 */
export class XattrBlocks {
  readonly #space: Space;
  readonly #writer: BlockWriter;
  readonly #fsSeed: number;
  readonly #byDigest = new Map<string, SharedBlock>();
  #shared: SharedBlock[] = [];

  constructor(space: Space, writer: BlockWriter, fsSeed: number) {
    this.#space = space;
    this.#writer = writer;
    this.#fsSeed = fsSeed;
  }

  /** The block number that an inode with these attributes refers to. */
  place(content: Buffer): number {
    const digest = createHash('sha256').update(content).digest('latin1');
    const known = this.#byDigest.get(digest);
    if (known !== undefined && known.users < MAX_USERS) {
      known.users += 1;
      if (known.users === 2) this.#shared.push(known);
      return known.number;
    }
    const number = this.#space.takeOne();
    const block = this.#writer.block(number);
    content.copy(block);
    this.#seal(block, number);
    this.#byDigest.set(digest, { number, users: 1 });
    return number;
  }

  /** Writes the counts of shared blocks. Everything placed must have been drained before. */
  async finish(): Promise<void> {
    for (const { number, users } of this.#shared) {
      const block = await this.#writer.read(number);
      block.writeUInt32LE(users, USERS_AT);
      this.#seal(block, number);
      await this.#writer.write(block, number);
    }
    this.#shared = [];
  }

  #seal(block: Buffer, number: number): void {
    block.writeUInt32LE(0, CHECKSUM_AT);
    const low = crc32cOfNumber(this.#fsSeed, number % 2 ** 32);
    const seed = crc32cOfNumber(low, Math.floor(number / 2 ** 32));
    block.writeUInt32LE(crc32c(seed, block), CHECKSUM_AT);
  }
}
