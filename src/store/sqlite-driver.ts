import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import type { SqliteDatabase, SqliteStatement } from 'kysely';

/**
 * node:sqlite in the shape that Kysely's dialect wants. A transaction takes the write lock at once
 * (`begin immediate`): one that began by reading could not be continued after another process
 * wrote (SQLITE_BUSY_SNAPSHOT). Rows get a normal prototype.
 */
export class SqliteDriver implements SqliteDatabase {
  readonly #db: DatabaseSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  close(): void {
    this.#db.close();
  }

  prepare(sql: string): SqliteStatement {
    const statement = this.#db.prepare(sql === 'begin' ? 'begin immediate' : sql);
    return {
      reader: statement.columns().length > 0,
      all: (parameters) => statement.all(...bindable(parameters)).map((row) => ({ ...row })),
      run: (parameters) => statement.run(...bindable(parameters)),
      *iterate(parameters) {
        for (const row of statement.iterate(...bindable(parameters))) yield { ...row };
      },
    };
  }
}

/** Opens with every commit synced (WAL, FULL) and a schema that is not believed. */
export function openSqliteFile(path: string, { busyTimeoutMs = 5000 } = {}): DatabaseSync {
  const db = new DatabaseSync(path, {
    timeout: busyTimeoutMs,
    enableForeignKeyConstraints: true,
    enableDoubleQuotedStringLiterals: false,
    defensive: true,
  });
  db.exec('pragma journal_mode = wal');
  db.exec('pragma synchronous = full');
  db.exec('pragma trusted_schema = off');
  db.exec('pragma cell_size_check = on');
  return db;
}

function bindable(parameters: readonly unknown[]): SQLInputValue[] {
  return parameters.map((value) => {
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
  });
}
