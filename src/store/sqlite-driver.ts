import { lstatSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import { BuilderdError } from '../core/errors.ts';
import { throwIfAborted } from '../core/scope.ts';
import { abortFault } from './abort-fault.ts';
import type { ReadAtOnce, UnreadRow } from './database.ts';
import { isSqliteBusy, sqliteFault } from './sqlite-fault.ts';
import type { TransactionScope } from './transaction-scope.ts';

/** How long SQLite itself may wait for another process, which stops our event loop. */
const BLOCKING_WAIT_MS = 2;
/** Locks are not given in turn: who looks often gets the moment between two transactions of others. */
const RETRY_SPREAD_MS = 3;
/** How long we wait in all. Others hold the write lock for one short transaction at a time. */
const LOCK_LIMIT_MS = 10_000;
const CACHED_STATEMENTS = 400;

/** Opens with every commit synced (WAL, FULL) and a schema that is not believed. */
export async function openSqliteFile(
  file: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<DatabaseSync> {
  const doing = 'open the SQLite database';
  return await untilFree(
    () => {
      const db = new DatabaseSync(file, {
        timeout: BLOCKING_WAIT_MS,
        enableForeignKeyConstraints: true,
        enableDoubleQuotedStringLiterals: false,
        defensive: true,
      });
      try {
        refuseLink(db, file);
        // The change to WAL needs the file alone: two first starts at once meet here.
        const mode = db.prepare('pragma journal_mode = wal').get()?.['journal_mode'];
        if (mode !== 'wal') {
          throw new BuilderdError(
            'host.unsupported',
            `Cannot ${doing}: its file system cannot hold a write-ahead log`,
          );
        }
        db.exec('pragma synchronous = full');
        db.exec('pragma trusted_schema = off');
        db.exec('pragma cell_size_check = on');
        return db;
      } catch (reason) {
        db.close();
        throw reason;
      }
    },
    { signal, doing },
  );
}

/**
 * SQLite follows symlinks and then says what it really opened. Root opens files of the service
 * user, who must not be able to make it another one's file. Nothing was read or written yet.
 */
export function refuseLink(db: DatabaseSync, file: string): void {
  const wanted = path.join(realpathSync(path.dirname(file)), path.basename(file));
  if (db.location() !== wanted) {
    throw new BuilderdError('host.permission', `Cannot use "${file}": it is a symlink`);
  }
  if (lstatSync(file).nlink === 1) return;
  throw new BuilderdError('host.permission', `Cannot use "${file}": it has another name, too`);
}

/** Kysely's way to the file, and the short one beside it. */
export function sqliteAccess(
  db: DatabaseSync,
  scope: TransactionScope,
): { readonly dialect: Dialect; readonly readAtOnce: ReadAtOnce } {
  const driver = new SqliteDriver(db, scope);
  return {
    dialect: {
      createAdapter: () => new OneAtATimeAdapter(),
      createDriver: () => driver,
      createIntrospector: (k) => new SqliteIntrospector(k),
      createQueryCompiler: () => new SqliteQueryCompiler(),
    },
    readAtOnce: (sql, parameters) => driver.readAtOnce(sql, parameters),
  };
}

export function sqliteDialect(db: DatabaseSync, scope: TransactionScope): Dialect {
  return sqliteAccess(db, scope).dialect;
}

/** Kysely's own queue for the one connection would wait for ever where ours refuses. */
class OneAtATimeAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

/**
 * One connection, used by one caller at a time. A transaction takes the write lock at once: one
 * that began by reading could not go on after another process wrote.
 */
class SqliteDriver implements Driver {
  readonly #db: DatabaseSync;
  readonly #scope: TransactionScope;
  readonly #connection: SqliteConnection;
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;

  constructor(db: DatabaseSync, scope: TransactionScope) {
    this.#db = db;
    this.#scope = scope;
    this.#connection = new SqliteConnection(db, scope);
  }

  async init(): Promise<void> {
    await Promise.resolve();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    this.#scope.refuseInside('use the database');
    if (this.#isTaken) await this.#waitForTurn(this.#scope.signal);
    this.#isTaken = true;
    return this.#connection;
  }

  /** Inside a transaction's body the connection is taken: there, too, the long way decides. */
  readAtOnce(sql: string, parameters: readonly unknown[]): readonly UnreadRow[] | undefined {
    return this.#isTaken ? undefined : this.#connection.readAtOnce(sql, parameters);
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'));
  }

  async commitTransaction(): Promise<void> {
    await this.#connection.commit();
  }

  async rollbackTransaction(): Promise<void> {
    await Promise.resolve(this.#connection.rollback());
  }

  async releaseConnection(): Promise<void> {
    await Promise.resolve(this.#connection.rollback());
    const next = this.#waiting.shift();
    // Handed over, not freed: nobody may come in between.
    if (next === undefined) this.#isTaken = false;
    else next();
  }

  async #waitForTurn(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      const place = this.#waiting.indexOf(resolve);
      // Not there: the connection was handed over already; it is used, and given back.
      if (place < 0) return;
      this.#waiting.splice(place, 1);
      reject(abortFault(signal, 'use the database'));
    };
    throwIfAborted(signal, 'use the database');
    this.#waiting.push(resolve);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async destroy(): Promise<void> {
    this.#scope.refuseInside('close the database');
    await Promise.resolve(this.#db.close());
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #db: DatabaseSync;
  readonly #scope: TransactionScope;
  readonly #statements = new Map<string, Prepared>();

  constructor(db: DatabaseSync, scope: TransactionScope) {
    this.#db = db;
    this.#scope = scope;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const { signal } = this.#scope;
    throwIfAborted(signal, 'finish the transaction');
    if (this.#db.isTransaction) {
      // The lock is ours: nothing to wait for.
      try {
        return this.#run<R>(sql, parameters);
      } catch (reason) {
        throw sqliteFault(reason, 'use the database');
      }
    }
    return await untilFree(() => this.#run<R>(sql, parameters), {
      ...(signal === undefined ? {} : { signal }),
      doing: 'use the database',
    });
  }

  /** Undefined while another process holds the lock. */
  readAtOnce(sql: string, parameters: readonly unknown[]): readonly UnreadRow[] | undefined {
    try {
      return this.#run<UnreadRow>(sql, parameters).rows;
    } catch (reason) {
      if (isSqliteBusy(reason)) return undefined;
      throw sqliteFault(reason, 'use the database');
    }
  }

  // oxlint-disable-next-line require-yield
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    await Promise.resolve();
    throw new BuilderdError('internal', 'Cannot stream rows: read them in pages');
  }

  async commit(): Promise<void> {
    try {
      await untilFree(() => this.#db.exec('commit'), { doing: 'commit to the database' });
    } catch (reason) {
      this.rollback();
      throw reason;
    }
  }

  /** SQLite may have rolled back by itself (disk full): that is no second fault. */
  rollback(): void {
    if (this.#db.isTransaction) this.#db.exec('rollback');
  }

  #run<R>(sql: string, parameters: readonly unknown[]): QueryResult<R> {
    const { statement, columns } = this.#prepare(sql);
    const values = parameters.map(bindable);
    if (columns.length > 0) {
      // Kysely names the type that its caller believes in; the caller parses.
      return { rows: statement.all(...values).map((row) => rowOf(columns, row) as R) };
    }
    const { changes } = statement.run(...values);
    return { rows: [], numAffectedRows: BigInt(changes) };
  }

  #prepare(sql: string): Prepared {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(sql);
    const prepared = { statement, columns: statement.columns().map(({ name }) => name) };
    // Node makes rows that V8 keeps as dictionaries: slow to make, and slower to copy.
    statement.setReturnArrays(true);
    if (this.#statements.size >= CACHED_STATEMENTS) this.#statements.clear();
    this.#statements.set(sql, prepared);
    return prepared;
  }
}

interface Prepared {
  readonly statement: StatementSync;
  /** None for a statement that gives no rows. */
  readonly columns: readonly string[];
}

function rowOf(columns: readonly string[], values: unknown): object {
  if (!Array.isArray(values)) throw new TypeError('SQLite gave a row that is no list');
  const row: Record<string, unknown> = {};
  // Several times as fast as the methods of a list; a row has forty columns.
  for (let index = 0; index < columns.length; index += 1) row[columns[index] ?? ''] = values[index];
  return row;
}

/** Tries again while another process holds the lock, without stopping the event loop for long. */
async function untilFree<T>(
  work: () => T,
  { signal, doing }: { readonly signal?: AbortSignal; readonly doing: string },
): Promise<T> {
  const deadline = performance.now() + LOCK_LIMIT_MS;
  for (;;) {
    try {
      return work();
    } catch (reason) {
      if (!isSqliteBusy(reason) || performance.now() > deadline) throw sqliteFault(reason, doing);
    }
    await sleep(1 + Math.random() * RETRY_SPREAD_MS);
    throwIfAborted(signal, doing);
  }
}

function bindable(value: unknown): SQLInputValue {
  if (
    value === null ||
    typeof value === 'string' ||
    typeof value === 'number' ||
    typeof value === 'bigint' ||
    value instanceof Uint8Array
  ) {
    return value;
  }
  if (value === undefined) return null;
  throw new TypeError(`Cannot bind a ${typeof value} to an SQLite statement`);
}
