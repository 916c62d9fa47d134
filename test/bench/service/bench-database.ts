import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type PrivatePostgres,
  startPrivatePostgres,
} from '../../../contrib/dev/private-postgres.ts';
import type { DialectName } from '../../../src/store/dialect-name.ts';
import type { Database, DatabaseConfig } from '../../../src/store/database.ts';
import { openDatabase } from '../../../src/store/open-database.ts';
import { silentLog } from '../../fixtures/databases.ts';

/** One kind of database, as durable as in production: every commit is synced. */
export interface DatabaseKind {
  readonly name: DialectName;
  readonly title: string;
  /** Of a new database without tables. */
  fresh(): Promise<DatabaseConfig>;
}

export interface DatabaseKinds extends AsyncDisposable {
  readonly kinds: readonly DatabaseKind[];
}

export async function openDatabaseKinds(dir: string): Promise<DatabaseKinds> {
  const postgres: PrivatePostgres = await startPrivatePostgres({
    settings: { fsync: 'on', shared_buffers: '128MB' },
  });
  let count = 0;
  const sqlite: DatabaseKind = {
    name: 'sqlite',
    title: 'SQLite',
    async fresh() {
      count += 1;
      const directory = join(dir, `sqlite-${count}`);
      await mkdir(directory, { mode: 0o700 });
      return { type: 'sqlite', directory };
    },
  };
  const server: DatabaseKind = {
    name: 'postgres',
    title: 'PostgreSQL',
    fresh: async () => ({ type: 'postgres', url: await postgres.createDatabase() }),
  };
  return {
    kinds: [sqlite, server],
    [Symbol.asyncDispose]: () => postgres[Symbol.asyncDispose](),
  };
}

/** What makes the service use it; an SQLite file lies where DATABASE_DATA_DIR says. */
export function databaseSettings(config: DatabaseConfig): Record<string, string> {
  return config.type === 'sqlite' ? {} : { DATABASE_TYPE: 'postgres', DATABASE_URL: config.url };
}

export async function openBenchDatabase(config: DatabaseConfig): Promise<Database> {
  return await openDatabase(config, { signal: inTime(), log: silentLog });
}

/** For one call of a benchmark: bounded, so that a hang is a failure with a name. */
export function inTime(): AbortSignal {
  return AbortSignal.timeout(60_000);
}
