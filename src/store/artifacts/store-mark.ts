import { randomBytes } from 'node:crypto';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import { isUuid } from '../../core/ids.ts';
import type { Directory } from './directory.ts';
import type { DurableIo, Owner } from './durable-io.ts';
import { storeFault } from './store-faults.ts';

/** Beside the tenants' directories, or under the prefix: whose artifacts these are. */
export const MARK_NAME = '.builderd-store';
const MAX_BYTES = 256;
const START = 'artifacts of the builderd database ';

export function markText(databaseId: string): string {
  return `${START}${databaseId}\n`;
}

/** Throws `storage.failed` for a mark that builderd did not write. */
export function parseMark(text: string): string {
  const id = text.startsWith(START) ? text.slice(START.length).trimEnd() : '';
  if (isUuid(id)) return id;
  throw new BuilderdError(
    'storage.failed',
    `Cannot tell whose artifact store it is: ${MARK_NAME} holds something else`,
  );
}

/** The mark of a store in a directory. */
export class MarkFile {
  readonly #io: DurableIo;
  readonly #root: Directory;
  readonly #owner: Owner | undefined;

  constructor(io: DurableIo, root: Directory, owner: Owner | undefined) {
    this.#io = io;
    this.#root = root;
    this.#owner = owner;
  }

  async read(): Promise<string | undefined> {
    try {
      await using handle = await this.#io.openForReading(this.#root.at(MARK_NAME));
      const bytes = Buffer.alloc(MAX_BYTES);
      const length = await this.#io.read(handle, bytes, MAX_BYTES, 0);
      return parseMark(bytes.toString('utf8', 0, length));
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw storeFault(reason, 'read whose artifact store it is');
    }
  }

  /** Appears whole or not at all. Of several that write at once the first one wins. */
  async write(databaseId: string, { replace }: { readonly replace: boolean }): Promise<void> {
    const path = this.#root.at(`.probe-${randomBytes(8).toString('hex')}`);
    const text = Buffer.from(markText(databaseId));
    try {
      await using handle = await this.#io.openNew(path);
      try {
        await this.#io.write(handle, text, text.length, 0);
        // No secret; who may enter the directory may read it, whoever marked it.
        await this.#io.seal(handle, 0o444, this.#owner);
        await this.#io.sync(handle);
        if (replace) await this.#removeOld();
        await this.#link(path);
      } finally {
        await this.#io.unlink(path);
      }
      await this.#io.sync(this.#root.handle);
    } catch (reason) {
      throw storeFault(reason, 'mark the artifact store');
    }
  }

  async #removeOld(): Promise<void> {
    try {
      await this.#io.unlink(this.#root.at(MARK_NAME));
    } catch (reason) {
      if (errnoOf(reason) !== 'ENOENT') throw reason;
    }
  }

  async #link(path: string): Promise<void> {
    try {
      await this.#io.link(path, this.#root.at(MARK_NAME));
    } catch (reason) {
      if (errnoOf(reason) !== 'EEXIST') throw reason;
    }
  }
}
