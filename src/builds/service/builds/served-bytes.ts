import { pipeline, type Readable, Transform } from 'node:stream';
import { isBuilderdError } from '../../../core/errors.ts';
import type { TenantId } from '../../../core/ids.ts';
import type { Log } from '../../../core/log.ts';
import { detachedSignal } from '../../../core/scope.ts';
import type { Database } from '../../../store/database.ts';
import { addUsage } from '../../../store/usage/add-usage.ts';

const FLUSH_MS = 5000;
const FLUSH_LIMIT_MS = 5000;

/** Counts what tenants download. Written together every few seconds, not with every download. */
export class ServedBytes implements AsyncDisposable {
  readonly #database: Database;
  readonly #log: Log;
  #counts = new Map<TenantId, number>();
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(database: Database, log: Log) {
    this.#database = database;
    this.#log = log;
  }

  /** The same stream, counted as it is read; destroying it releases the source. */
  count(tenantId: TenantId, body: Readable): Readable {
    const counter = new Transform({
      transform: (piece: Uint8Array, _encoding, done) => {
        this.#add(tenantId, piece.length);
        done(null, piece);
      },
    });
    // Its fault is that of the stream that is given out.
    return pipeline(body, counter, () => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    await this.#flushing;
    await this.#flush();
  }

  #add(tenantId: TenantId, bytes: number): void {
    this.#counts.set(tenantId, (this.#counts.get(tenantId) ?? 0) + bytes);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      // Never rejects.
      this.#flushing = this.#flush();
    }, FLUSH_MS).unref();
  }

  async #flush(): Promise<void> {
    const counts = this.#counts;
    this.#counts = new Map();
    if (counts.size === 0) return;
    try {
      await this.#database.transaction(
        async (tx) => {
          for (const [tenantId, servedBytes] of counts)
            await addUsage(tx, tenantId, { servedBytes });
        },
        { signal: detachedSignal(FLUSH_LIMIT_MS) },
      );
    } catch (reason) {
      this.#log.warn({ err: reason }, 'Served bytes were not counted');
      // They are counted later, unless they may have been written.
      if (!isBuilderdError(reason) || reason.details['outcome'] === 'unknown') return;
      for (const [tenantId, bytes] of counts) this.#add(tenantId, bytes);
    }
  }
}
