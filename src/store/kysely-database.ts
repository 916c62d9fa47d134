import { setTimeout as sleep } from 'node:timers/promises';
import { type Dialect, Kysely, type RawBuilder, sql } from 'kysely';
import { BuilderdError, isBuilderdError } from '../core/errors.ts';
import { throwIfAborted } from '../core/scope.ts';
import type { Database, DoorbellTopic, ReadAtOnce } from './database.ts';
import type { DialectName } from './dialect-name.ts';
import type { Doorbell } from './doorbell.ts';
import { isPostgresConflict, isPostgresUniqueViolation } from './postgres-fault.ts';
import type { Schema } from './schema.ts';
import { isSqliteUniqueViolation } from './sqlite-fault.ts';
import type { TransactionRun, TransactionScope } from './transaction-scope.ts';

/** What the two kinds of database do differently. */
export interface Engine {
  readonly dialectName: DialectName;
  readonly dialect: Dialect;
  readonly readAtOnce?: ReadAtOnce;
  readonly scope: TransactionScope;
  readonly bell: Doorbell;
  /** Wakes listeners in other processes, and begins to hear of their rings. */
  readonly callOthers: (topic: DoorbellTopic) => void;
  readonly hearOthers: () => void;
  readonly close: () => Promise<void>;
}

const RETRIES = 3;

export function createDatabase(engine: Engine): Database {
  const { dialectName, scope, bell } = engine;
  const k = new Kysely<Schema>({ dialect: engine.dialect });
  const now = clockOf(dialectName);
  const database: Database = {
    dialect: dialectName,
    k,
    ...(engine.readAtOnce === undefined ? {} : { readAtOnce: engine.readAtOnce }),
    now,
    async transaction(body, { signal }) {
      scope.refuseInside('begin a transaction');
      for (let tries = 1; ; tries += 1) {
        throwIfAborted(signal, 'use the database');
        const run: TransactionRun = { signal, rings: new Set(), phase: 'beginning' };
        try {
          const result = await scope.around(run, () =>
            k
              .transaction()
              .execute((tx) => scope.within(run, () => body({ dialect: dialectName, k: tx, now }))),
          );
          for (const topic of run.rings) database.ring(topic);
          return result;
        } catch (reason) {
          if (tries > RETRIES || !isConflict(reason)) throw reason;
        }
        await sleep(Math.random() * 20 * 2 ** tries);
      }
    },
    ring(topic) {
      const run = scope.current;
      if (run !== undefined) {
        run.rings.add(topic);
        return;
      }
      bell.strike(topic);
      engine.callOthers(topic);
    },
    listen(topic, listener, options = {}) {
      const heard = bell.listen(topic, () => scope.outside(listener), options.pollMs);
      scope.outside(engine.hearOthers);
      return heard;
    },
    async ping({ signal }) {
      await withSignal(sql`select 1`.execute(k), signal);
    },
    async [Symbol.asyncDispose]() {
      bell[Symbol.dispose]();
      await engine.close();
      await k.destroy();
    },
  };
  return database;
}

/** A row with this key exists already. */
export function isUniqueViolation(reason: unknown): boolean {
  const cause = reason instanceof BuilderdError ? reason.cause : reason;
  return isSqliteUniqueViolation(cause) || isPostgresUniqueViolation(cause);
}

/** The connection broke during a commit: read what there is before doing anything again. */
export function isOutcomeUnknown(reason: unknown): boolean {
  return isBuilderdError(reason, 'database.unavailable') && reason.details['outcome'] === 'unknown';
}

function clockOf(dialect: DialectName): RawBuilder<number> {
  // Of the statement, not of the transaction: a claim that waited for a lock must not see the past.
  return dialect === 'sqlite'
    ? sql<number>`cast(round(unixepoch('now', 'subsec') * 1000) as integer)`
    : sql<number>`(extract(epoch from statement_timestamp()) * 1000)::bigint`;
}

function isConflict(reason: unknown): boolean {
  return reason instanceof BuilderdError && isPostgresConflict(reason.cause);
}

/** Stops waiting, not working: the query ends by the database's own limits. */
async function withSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => {
    reject(
      new BuilderdError('database.unavailable', 'Cannot reach the database: it took too long', {
        cause: signal.reason,
      }),
    );
  };
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
