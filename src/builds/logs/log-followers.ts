import { setTimeout as sleep } from 'node:timers/promises';
import { BuilderdError } from '../../core/errors.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Log } from '../../core/log.ts';
import { findBuild } from '../../store/builds/find-build.ts';
import type { Database } from '../../store/database.ts';
import { readLogHeads } from '../../store/logs/log-heads.ts';
import type { LogEntry } from '../service/views.ts';
import { FollowerSlots, type FollowerLimits } from './follower-slots.ts';
import type { LogReader } from './log-reader.ts';
import { LogTail } from './log-tail.ts';

type Batch = readonly LogEntry[];

const POLL_MS = 1000;
/** Between two looks: the rings of many builds are answered together. */
const PAUSE_MS = 20;
const BATCH_ENTRIES = 1000;
/** Batches that followers share; a megabyte each at most. */
const MAX_SHARED = 16;

/**
 * Gives entries as they come. One look at the database serves all followers of all builds, and a
 * batch that several want is read once. Followers pull: one that does not read holds one batch and
 * keeps nothing else waiting or in memory.
 */
export class LogFollowers implements AsyncDisposable {
  readonly #database: Database;
  readonly #reader: LogReader;
  readonly #log: Log;
  readonly #slots: FollowerSlots;
  readonly #closed = new AbortController();
  readonly #tails = new Map<BuildId, LogTail>();
  readonly #shared = new Map<string, Promise<Batch>>();
  #bell: Disposable | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;

  constructor(options: {
    readonly database: Database;
    readonly reader: LogReader;
    readonly limits: FollowerLimits;
    readonly log: Log;
  }) {
    this.#database = options.database;
    this.#reader = options.reader;
    this.#log = options.log;
    this.#slots = new FollowerSlots(options.limits);
  }

  /**
   * Takes its place at once, and throws `api.too_many` when there is none; the place is free again
   * when the iteration or the signal ends. Ends when the build is over and all was given, or
   * quietly with the signal; throws `service.unavailable` when the followers are disposed of.
   */
  follow(
    tenantId: TenantId,
    buildId: BuildId,
    { from, signal }: { readonly from: number; readonly signal: AbortSignal },
  ): AsyncIterable<Batch> {
    const slot = this.#slots.take(tenantId, buildId);
    const release = (): void => slot[Symbol.dispose]();
    const over = AbortSignal.any([signal, this.#closed.signal]);
    over.addEventListener('abort', release, { once: true });
    if (over.aborted) release();
    return this.#entries(tenantId, buildId, from, over, () => {
      over.removeEventListener('abort', release);
      release();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(
      new BuilderdError('service.unavailable', 'Cannot follow the log: the service stops'),
    );
    this.#bell?.[Symbol.dispose]();
    this.#bell = undefined;
    await this.#looking;
  }

  async *#entries(
    tenantId: TenantId,
    buildId: BuildId,
    from: number,
    signal: AbortSignal,
    release: () => void,
  ): AsyncGenerator<Batch> {
    try {
      this.#closed.signal.throwIfAborted();
      if (signal.aborted) return;
      const build = await findBuild(this.#database, tenantId, buildId);
      if (build === undefined) {
        throw new BuilderdError('api.not_found', 'Cannot follow the log: there is no such build');
      }
      const tail = this.#join(buildId);
      try {
        await this.#look();
        for (let next = from; !signal.aborted; ) {
          if (next < tail.entries) {
            const batch = await this.#batch(tenantId, buildId, next);
            if (batch.length === 0) {
              throw new BuilderdError('internal', `Cannot read entry ${next} of the log`);
            }
            next += batch.length;
            yield batch;
          } else if (tail.isOver) {
            return;
          } else {
            await tail.next(signal);
          }
        }
        // Nobody may take this for the end of the log.
        this.#closed.signal.throwIfAborted();
      } finally {
        this.#leave(buildId, tail);
      }
    } finally {
      release();
    }
  }

  #join(buildId: BuildId): LogTail {
    const tail = this.#tails.get(buildId) ?? new LogTail({ entries: 0, over: false });
    tail.followers += 1;
    this.#tails.set(buildId, tail);
    this.#bell ??= this.#database.listen('logs', () => this.#lookSoon(), { pollMs: POLL_MS });
    return tail;
  }

  #leave(buildId: BuildId, tail: LogTail): void {
    tail.followers -= 1;
    if (tail.followers > 0) return;
    this.#tails.delete(buildId);
    if (this.#tails.size > 0) return;
    this.#shared.clear();
    this.#bell?.[Symbol.dispose]();
    this.#bell = undefined;
  }

  #lookSoon(): void {
    // Faults are logged in there; the next ring or poll looks again.
    void this.#look();
  }

  /** One look at a time; who asks meanwhile gets the one after it. */
  async #look(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      await this.#looking;
      return;
    }
    this.#looking = this.#lookRepeatedly();
    await this.#looking;
  }

  async #lookRepeatedly(): Promise<void> {
    try {
      for (;;) {
        this.#lookAgain = false;
        const ids = [...this.#tails.keys()];
        const heads = await readLogHeads(this.#database, ids);
        for (const id of ids) this.#tails.get(id)?.advance(heads.get(id));
        // May have been set during the look.
        if (!this.#isWanted()) return;
        await sleep(PAUSE_MS);
      }
    } catch (reason) {
      this.#log.warn({ err: reason }, 'Followed build logs were not looked at');
    } finally {
      this.#looking = undefined;
    }
  }

  #isWanted(): boolean {
    return this.#lookAgain && !this.#closed.signal.aborted;
  }

  /** Entries never change, so that whoever asks for the same ones gets the same batch. */
  #batch(tenantId: TenantId, buildId: BuildId, from: number): Promise<Batch> {
    const key = `${buildId} ${from}`;
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const range = { from, limit: BATCH_ENTRIES };
    const reading = this.#reader.read(tenantId, buildId, range, { signal: this.#closed.signal });
    this.#shared.set(key, reading);
    reading.catch(() => this.#shared.delete(key));
    const [oldest] = this.#shared.keys();
    if (this.#shared.size > MAX_SHARED && oldest !== undefined) this.#shared.delete(oldest);
    return reading;
  }
}
