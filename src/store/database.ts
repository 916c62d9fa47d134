import type { Kysely, RawBuilder, Transaction } from 'kysely';
import type { DialectName } from './dialect-name.ts';
import type { Schema } from './schema.ts';

/** A row as the database gave it: its reader checks it. */
export type UnreadRow = Readonly<Record<string, unknown>>;

/**
 * Rows of a reading statement, given at once; undefined when it would have to wait for anything,
 * and is to go through Kysely like the rest.
 */
export type ReadAtOnce = (
  sql: string,
  parameters: readonly unknown[],
) => readonly UnreadRow[] | undefined;

/** A connection or a transaction: what the functions of this room take as their first argument. */
export interface Db {
  readonly dialect: DialectName;
  readonly k: Kysely<Schema> | Transaction<Schema>;
  /** Where the database is in this process; never in a transaction. */
  readonly readAtOnce?: ReadAtOnce;
  /** Milliseconds since 1970 by the database's clock: the only clock that decides claims. */
  readonly now: RawBuilder<number>;
}

/** An open database. Every method throws `database.unavailable` when it cannot be reached in time. */
export interface Database extends Db, AsyncDisposable {
  /**
   * All or nothing. `body` only awaits the database, through the connection that it is given. On
   * PostgreSQL it runs again, at most three times, after a serialization failure or a deadlock, and
   * must have no other effect. Isolation there is read committed: what is checked before a write is
   * locked first, rows of builds before the row of their tenant. On SQLite a transaction is alone
   * from its beginning. Rings inside it are heard after the commit. A commit whose answer is lost
   * throws `database.unavailable` with `isOutcomeUnknown`: read what there is before a repeat.
   */
  transaction<T>(
    body: (tx: Db) => Promise<T>,
    options: { readonly signal: AbortSignal },
  ): Promise<T>;
  /** Wakes listeners of `topic` in all processes, some time soon; carries no data. A hint only. */
  ring(topic: DoorbellTopic): void;
  /** Calls `listener` after a ring, and every `pollMs` at least. */
  listen(
    topic: DoorbellTopic,
    listener: () => void,
    options?: { readonly pollMs?: number },
  ): Disposable;
  /** One round trip; for health. */
  ping(options: { readonly signal: AbortSignal }): Promise<void>;
}

/** `queue`: new builds and freed slots; `control`: cancels and new limits; `logs`; `events`. */
export type DoorbellTopic = 'queue' | 'control' | 'logs' | 'events';

export type DatabaseConfig =
  | { readonly type: 'sqlite'; readonly directory: string }
  | {
      readonly type: 'postgres';
      /** `postgres://user:password@host/db?sslmode=…&pool_max_conns=…`; never logged. */
      readonly url: string;
    };
