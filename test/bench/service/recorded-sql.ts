import type { CompiledQuery, DatabaseConnection, Dialect, Driver, QueryResult } from 'kysely';
import pg from 'pg';
import type { Database, DatabaseConfig } from '../../../src/store/database.ts';
import { databaseFile } from '../../../src/store/data-directory.ts';
import { Doorbell } from '../../../src/store/doorbell.ts';
import { createDatabase } from '../../../src/store/kysely-database.ts';
import { postgresDialect } from '../../../src/store/postgres-driver.ts';
import { openSqliteFile, sqliteDialect } from '../../../src/store/sqlite-driver.ts';
import { TransactionScope } from '../../../src/store/transaction-scope.ts';
import { inTime } from './bench-database.ts';

/** What one request asked of the database, in order. */
export type Recorded =
  | { readonly kind: 'begin' | 'commit' }
  | { readonly kind: 'statement'; readonly sql: string; readonly parameters: readonly unknown[] };

export interface RecordingDatabase extends AsyncDisposable {
  readonly database: Database;
  /** Everything since the last call. */
  take(): readonly Recorded[];
}

/** The real driver, with a list of what goes through it. */
export async function openRecording(config: DatabaseConfig): Promise<RecordingDatabase> {
  const scope = new TransactionScope();
  const notes: Recorded[] = [];
  const dialect = recording(
    config.type === 'sqlite'
      ? sqliteDialect(
          await openSqliteFile(databaseFile(config.directory), { signal: inTime() }),
          scope,
        )
      : postgresDialect({ pool: poolOf(config.url), scope, queryTimeoutMs: 60_000 }),
    notes,
  );
  const database = createDatabase({
    dialectName: config.type,
    dialect,
    scope,
    bell: new Doorbell(),
    callOthers: () => undefined,
    hearOthers: () => undefined,
    close: () => Promise.resolve(),
  });
  return {
    database,
    take: () => notes.splice(0),
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

type TypeId = Parameters<typeof pg.types.getTypeParser>[0];

/** Whole numbers as numbers, as the store has them. */
export function poolOf(url: string): pg.Pool {
  const { INT8, NUMERIC } = pg.types.builtins;
  return new pg.Pool({
    connectionString: url,
    types: {
      getTypeParser: (oid: TypeId, format?: 'text' | 'binary') =>
        format !== 'binary' && (oid === INT8 || oid === NUMERIC)
          ? Number
          : pg.types.getTypeParser(oid, format),
    },
  });
}

function recording(dialect: Dialect, notes: Recorded[]): Dialect {
  return {
    createAdapter: () => dialect.createAdapter(),
    createIntrospector: (k) => dialect.createIntrospector(k),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createDriver: () => new RecordingDriver(dialect.createDriver(), notes),
  };
}

class RecordingDriver implements Driver {
  readonly #driver: Driver;
  readonly #notes: Recorded[];

  constructor(driver: Driver, notes: Recorded[]) {
    this.#driver = driver;
    this.#notes = notes;
  }

  init(): Promise<void> {
    return this.#driver.init();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new RecordingConnection(await this.#driver.acquireConnection(), this.#notes);
  }

  async beginTransaction(
    connection: DatabaseConnection,
    settings: Parameters<Driver['beginTransaction']>[1],
  ): Promise<void> {
    await this.#driver.beginTransaction(ownOf(connection), settings);
    this.#notes.push({ kind: 'begin' });
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await this.#driver.commitTransaction(ownOf(connection));
    this.#notes.push({ kind: 'commit' });
  }

  rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    return this.#driver.rollbackTransaction(ownOf(connection));
  }

  releaseConnection(connection: DatabaseConnection): Promise<void> {
    return this.#driver.releaseConnection(ownOf(connection));
  }

  destroy(): Promise<void> {
    return this.#driver.destroy();
  }
}

class RecordingConnection implements DatabaseConnection {
  readonly own: DatabaseConnection;
  readonly #notes: Recorded[];

  constructor(own: DatabaseConnection, notes: Recorded[]) {
    this.own = own;
    this.#notes = notes;
  }

  executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const { sql, parameters } = query;
    this.#notes.push({ kind: 'statement', sql, parameters });
    return this.own.executeQuery<R>(query);
  }

  streamQuery<R>(query: CompiledQuery, size: number): AsyncIterableIterator<QueryResult<R>> {
    return this.own.streamQuery<R>(query, size);
  }
}

function ownOf(connection: DatabaseConnection): DatabaseConnection {
  if (connection instanceof RecordingConnection) return connection.own;
  throw new TypeError('The connection is not one of this driver');
}
