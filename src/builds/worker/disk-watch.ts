import { BuilderdError, type ErrorDetails } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';

interface StatFile {
  stat(): Promise<{ readonly size: number; readonly blocks: number }>;
}

export interface WatchedFiles {
  readonly outputs: readonly StatFile[];
  /** Takes disk while the build runs, and nothing afterwards. */
  readonly scratch?: StatFile;
}

const EVERY_MS = 250;
const BLOCK_BYTES = 512;
const MIB = 1024 ** 2;

/**
 * Aborts its signal when the files of a build take more disk together than it may have. The limit
 * of a process (RLIMIT_FSIZE) is one for each file, and what the worker says of sizes proves
 * nothing. A round that is late lets a worker write on for as long, up to that limit of each file.
 */
export class DiskWatch implements AsyncDisposable {
  readonly #files: WatchedFiles;
  readonly #limitBytes: number;
  readonly #exceeded = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #round: Promise<void> | undefined;

  constructor(files: WatchedFiles, limitBytes: number) {
    this.#files = files;
    this.#limitBytes = limitBytes;
    this.#timer = setInterval(() => {
      this.#round ??= this.#look().finally(() => {
        this.#round = undefined;
      });
    }, EVERY_MS);
  }

  /** Its reason is `quota.denied`. */
  get signal(): AbortSignal {
    return this.#exceeded.signal;
  }

  /** For the end, when nobody writes any more. Throws `quota.denied`. */
  async check(): Promise<void> {
    const usedBytes = await this.#usedBytes();
    if (usedBytes > this.#limitBytes) throw this.#fault(usedBytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#round;
  }

  async #look(): Promise<void> {
    try {
      await this.check();
    } catch (reason) {
      // A file that cannot be looked at any more: nobody could say how much it takes.
      this.#exceeded.abort(reason);
    }
  }

  async #usedBytes(): Promise<number> {
    const { outputs, scratch } = this.#files;
    let [sizes, allocated] = [0, 0];
    for (const handle of outputs) {
      const { size, blocks } = await handle.stat();
      sizes += size;
      allocated += blocks * BLOCK_BYTES;
    }
    if (scratch !== undefined) allocated += (await scratch.stat()).blocks * BLOCK_BYTES;
    // A file system's own bookkeeping is no fault of the build.
    const slack = this.#limitBytes / 64 + 16 * MIB;
    return Math.max(sizes, allocated - slack);
  }

  /**
   * What a worker says of the limit of a process, with the numbers that the tenant's violations need.
   * The kernel ended the write at `fileBytes`, so that no file shows how much more there was.
   */
  withNumbers(fault: BuilderdError, fileBytes: number): BuilderdError {
    // A limit below that of the build is ours, and no quota.
    const isQuota = fileBytes >= Math.floor(this.#limitBytes);
    if (fault.code !== 'quota.denied' || !isQuota) return fault;
    return new BuilderdError(
      fault.code,
      `Cannot convert the image: an artifact became larger than the ${formatBytes(this.#limitBytes)} that this build may use`,
      { cause: fault, details: this.#details(this.#limitBytes + 1) },
    );
  }

  #details(usedBytes: number): ErrorDetails {
    return { quotaType: 'disk', current: Math.ceil(usedBytes), limit: this.#limitBytes };
  }

  #fault(usedBytes: number): BuilderdError {
    return new BuilderdError(
      'quota.denied',
      `Cannot convert the image: its files take ${formatBytes(usedBytes)} of disk together, this build may use ${formatBytes(this.#limitBytes)}`,
      { details: this.#details(usedBytes) },
    );
  }
}
