import { setTimeout as sleep } from 'node:timers/promises';
import { asBuilderdError, BuilderdError, isBuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Database } from '../../store/database.ts';
import {
  appendSegment,
  type LogFence,
  type LogPosition,
  readLogPosition,
} from '../../store/logs/append-segment.ts';
import { LogBatcher, type LogBatch } from './log-batcher.ts';
import { LOG_LIMITS, type LogLimits } from './log-limits.ts';
import type { NewLogEntry } from './log-lines.ts';

export interface LogWriterOptions {
  /** Secrets of the build: no entry shows them. */
  readonly mask: readonly string[];
  readonly limits?: LogLimits;
  /** Entries reach the database after this time at the latest, … */
  readonly flushMs?: number;
  /** … or when there are this many bytes of them. At most 256 KiB. */
  readonly flushBytes?: number;
  readonly log?: Log;
  /** Counts bytes beyond the limits, for the metric. */
  readonly onDropped?: (bytes: number) => void;
}

/** The log of one attempt. Entries are kept in the order of `write`. */
export interface LogWriter extends AsyncDisposable {
  /**
   * Returns at once and never throws: a log must not stop a build. A message of several lines
   * becomes several entries.
   */
  write(entry: NewLogEntry): void;
  /**
   * Waits until all is in the database; to be called before the build is ended. Throws
   * `build.lost` when the attempt no longer held the build, `database.unavailable` when the signal
   * (10 s if none) came first. A repeat gives the same answer.
   */
  close(options?: { readonly signal: AbortSignal }): Promise<void>;
}

const FLUSH_MS = 200;
const FLUSH_BYTES = 256 * 1024;
const CLOSE_MS = 10_000;
const STATEMENT_MS = 10_000;
const RETRY_MS = { first: 200, most: 5000 };

export function openLogWriter(
  database: Database,
  fence: LogFence,
  options: LogWriterOptions,
): LogWriter {
  return new BatchingLogWriter(database, fence, options);
}

class BatchingLogWriter implements LogWriter {
  readonly #database: Database;
  readonly #fence: LogFence;
  readonly #log: Log | undefined;
  readonly #onDropped: ((bytes: number) => void) | undefined;
  readonly #batcher: LogBatcher;
  readonly #limits: LogLimits;
  readonly #flushMs: number;
  readonly #flushBytes: number;
  readonly #life = new AbortController();
  /** The border stands before everything that was written, also in time. */
  readonly #openedMs = Date.now();
  #position: LogPosition | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pumping: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #fault: BuilderdError | undefined;

  constructor(database: Database, fence: LogFence, options: LogWriterOptions) {
    this.#database = database;
    this.#fence = fence;
    this.#log = options.log;
    this.#onDropped = options.onDropped;
    this.#limits = options.limits ?? LOG_LIMITS;
    this.#flushMs = options.flushMs ?? FLUSH_MS;
    this.#flushBytes = Math.min(options.flushBytes ?? FLUSH_BYTES, FLUSH_BYTES);
    this.#batcher = new LogBatcher({
      limits: this.#limits,
      mask: options.mask,
      nowMs: Date.now,
      monotonicMs: () => performance.now(),
    });
  }

  write(entry: NewLogEntry): void {
    if (this.#fault !== undefined || this.#closing !== undefined) return;
    this.#batcher.add(entry);
    this.#schedule();
  }

  close({ signal = AbortSignal.timeout(CLOSE_MS) }: { signal?: AbortSignal } = {}): Promise<void> {
    this.#closing ??= this.#drain(signal);
    return this.#closing;
  }

  /** Disposal without a close is for attempts that failed: their fault counts, not that of the log. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing !== undefined) return;
    try {
      await this.close();
    } catch (reason) {
      const { buildId, attempt } = this.#fence;
      this.#log?.warn({ err: reason, buildId, attempt }, 'End of a build log was not written');
    }
  }

  async #drain(signal: AbortSignal): Promise<void> {
    clearTimeout(this.#timer);
    const stop = (): void => {
      const fact = 'the database did not take it in time';
      this.#life.abort(
        new BuilderdError('database.unavailable', `Cannot write the log of the build: ${fact}`, {
          cause: signal.reason,
        }),
      );
    };
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      await this.#pumping;
      await this.#pump();
      this.#batcher.finish();
      await this.#pump();
    } finally {
      signal.removeEventListener('abort', stop);
    }
    if (this.#fault !== undefined) throw this.#fault;
  }

  #schedule(): void {
    if (this.#pumping !== undefined) return;
    if (this.#batcher.queuedBytes >= this.#flushBytes) {
      this.#startPump();
    } else {
      this.#timer ??= setTimeout(() => this.#startPump(), this.#flushMs);
    }
  }

  #startPump(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // Never rejects: faults are kept for close().
    this.#pumping ??= this.#pump().finally(() => {
      this.#pumping = undefined;
      if (!this.#batcher.isEmpty && this.#closing === undefined) this.#schedule();
    });
  }

  async #pump(): Promise<void> {
    try {
      while (this.#fault === undefined && !this.#batcher.isEmpty) {
        this.#position ??= await this.#begin();
        this.#batcher.closeGap();
        const room = this.#limits.buildBytes - this.#position.bytes;
        const batch = this.#batcher.take(this.#flushBytes, room);
        if (batch !== undefined) await this.#append(this.#position, batch);
      }
    } catch (reason) {
      this.#fault = asBuilderdError(reason, 'write the log of the build');
      this.#batcher.clear();
    }
  }

  /** Finds the end of the log, and puts the border there if an earlier attempt wrote before it. */
  async #begin(): Promise<LogPosition> {
    const position = await this.#retried(() => readLogPosition(this.#database, this.#fence));
    const { attempt } = this.#fence;
    if (position.entries > 0 && !position.begun) {
      const metadata = { attempt: String(attempt) };
      this.#batcher.addFirst(`Attempt ${attempt} begins`, { time: this.#openedMs, metadata });
    }
    return position;
  }

  async #append(position: LogPosition, batch: LogBatch): Promise<void> {
    const segment = { firstEntry: position.entries, ...batch };
    await this.#retried((signal) =>
      this.#database.transaction((tx) => appendSegment(tx, this.#fence, segment), { signal }),
    );
    this.#position = {
      begun: true,
      entries: position.entries + batch.entries,
      bytes: position.bytes + batch.data.length,
    };
    if (batch.droppedBytes > 0) this.#onDropped?.(batch.droppedBytes);
    this.#database.ring('logs');
  }

  /** The same again while the database cannot be reached, until the writer is closed for good. */
  async #retried<T>(attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const life = this.#life.signal;
    for (let waitMs = RETRY_MS.first; ; waitMs = Math.min(waitMs * 2, RETRY_MS.most)) {
      try {
        return await attempt(AbortSignal.any([life, AbortSignal.timeout(STATEMENT_MS)]));
      } catch (reason) {
        if (!isBuilderdError(reason, 'database.unavailable')) throw reason;
        if (life.aborted) throw reason;
        await sleep(waitMs * (0.5 + Math.random() / 2), undefined, { signal: life }).catch(() => {
          throw reason;
        });
      }
    }
  }
}
