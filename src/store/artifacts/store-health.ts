import { randomBytes } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { BuilderdError, errnoOf, messageOf } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { StoreHealth } from './artifact-store.ts';
import type { Directory } from './directory.ts';
import type { DurableIo } from './durable-io.ts';
import { storeFault } from './store-faults.ts';

/** Its presence says that a process saw a failed fsync and that nobody has checked the disk since. */
const MARKER = '.unhealthy';
const PROBE_BYTES = 64 * 1024;

/**
 * Whether this disk may be believed. After a failed fsync the kernel may have dropped the data and
 * a second fsync may still succeed (PostgreSQL's lesson of 2018): so one failure stops all commits,
 * in this process and, by the marker file, in the next, until a check succeeds.
 */
export class DiskHealth {
  readonly #io: DurableIo;
  readonly #root: Directory;
  #reason: string | undefined;
  #isMarked = false;

  constructor(io: DurableIo, root: Directory) {
    this.#io = io;
    this.#root = root;
  }

  get(): StoreHealth {
    return this.#reason === undefined
      ? { kind: 'healthy' }
      : { kind: 'unhealthy', reason: this.#reason };
  }

  /** What an earlier process left behind. */
  async recall(): Promise<void> {
    this.#isMarked = await this.#hasMarker();
    if (this.#isMarked) this.#reason = 'an earlier fsync failed, and no check has been made since';
  }

  /** Throws `storage.failed` while the disk is doubted; a check by `builderd fsck` lifts the doubt. */
  async assertHealthy(signal: AbortSignal): Promise<void> {
    if (this.#reason === undefined) return;
    const wasLifted = this.#isMarked && !(await this.#hasMarker());
    if (wasLifted && (await this.check(signal)).kind === 'healthy') return;
    throw new BuilderdError(
      'storage.failed',
      `Cannot use the artifact store: ${this.#reason}; run builderd fsck`,
    );
  }

  /** fsync. A failure is fatal for the caller's attempt: never call it again on the same file. */
  async sync(handle: FileHandle): Promise<void> {
    try {
      await this.#io.sync(handle);
    } catch (reason) {
      const errno = errnoOf(reason) ?? messageOf(reason);
      // A full disk lost this file's data, but is no broken disk.
      if (errno !== 'ENOSPC' && errno !== 'EDQUOT') await this.#fail(`an fsync failed (${errno})`);
      throw storeFault(reason, 'make the artifact durable');
    }
  }

  async check(signal: AbortSignal): Promise<StoreHealth> {
    throwIfAborted(signal, 'check the artifact store');
    try {
      await this.#probe();
      if (await this.#hasMarker()) {
        await this.#io.unlink(this.#root.at(MARKER));
        await this.#io.sync(this.#root.handle);
      }
      this.#reason = undefined;
      this.#isMarked = false;
    } catch (reason) {
      await this.#fail(`a probe failed (${errnoOf(reason) ?? messageOf(reason)})`);
    }
    return this.get();
  }

  async #probe(): Promise<void> {
    const path = this.#root.at(`.probe-${randomBytes(8).toString('hex')}`);
    const written = randomBytes(PROBE_BYTES);
    const handle = await this.#io.openNew(path);
    try {
      await this.#io.write(handle, written, PROBE_BYTES, 0);
      await this.#io.sync(handle);
      const found = Buffer.alloc(PROBE_BYTES);
      await this.#io.read(handle, found, PROBE_BYTES, 0);
      if (!found.equals(written)) throw new Error('other bytes came back than were written');
    } finally {
      await handle.close();
      await this.#io.unlink(path);
    }
    await this.#io.sync(this.#root.handle);
  }

  async #fail(reason: string): Promise<void> {
    this.#reason = reason;
    try {
      await (await this.#io.openNew(this.#root.at(MARKER))).close();
      this.#isMarked = true;
    } catch (fault) {
      // A disk that fails may refuse the marker as well: then this process alone remembers.
      this.#isMarked = errnoOf(fault) === 'EEXIST';
    }
  }

  async #hasMarker(): Promise<boolean> {
    try {
      await (await this.#io.openForReading(this.#root.at(MARKER))).close();
      return true;
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return false;
      throw storeFault(reason, 'read the state of the artifact store');
    }
  }
}
