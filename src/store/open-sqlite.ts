import { throwIfAborted } from '../core/scope.ts';
import { databaseFile, prepareDataDirectory, prepareDataFile } from './data-directory.ts';
import type { Database } from './database.ts';
import { Doorbell } from './doorbell.ts';
import { createDatabase } from './kysely-database.ts';
import { checkMigrated, migrate } from './migrate.ts';
import type { OpenDatabaseOptions } from './open-options.ts';
import { openSqliteFile, sqliteAccess } from './sqlite-driver.ts';
import { TransactionScope } from './transaction-scope.ts';

/** How often other processes' commits are looked for: one pragma without reading the file. */
const LOOK_MS = 200;

export async function openSqlite(
  directory: string,
  { signal, log, migrate: wanted = true, onMigrated }: OpenDatabaseOptions,
): Promise<Database> {
  throwIfAborted(signal, 'open the database');
  await prepareDataDirectory(directory);
  const file = databaseFile(directory);
  await prepareDataFile(file, { create: wanted });
  const db = await openSqliteFile(file, { signal });
  const scope = new TransactionScope();
  const bell = new Doorbell();
  const access = sqliteAccess(db, scope);
  const version = db.prepare('pragma data_version');
  let seen: unknown;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    const current = version.get()?.['data_version'];
    // Changes whenever another connection, in whatever process, has committed.
    if (seen !== undefined && seen !== current) bell.strikeAll();
    seen = current;
    timer = bell.isUsed ? setTimeout(look, LOOK_MS) : undefined;
  };
  const database = createDatabase({
    dialectName: 'sqlite',
    ...access,
    scope,
    bell,
    callOthers: () => undefined,
    hearOthers: () => {
      if (timer === undefined) look();
    },
    close: async () => {
      clearTimeout(timer);
      await Promise.resolve();
    },
  });
  try {
    const options = { dialect: 'sqlite' } as const;
    const applied = wanted ? await migrate(database.k, options) : [];
    if (!wanted) await checkMigrated(database.k, options);
    if (applied.length > 0) log.info({ count: applied.length }, 'Migrated the database');
    if (wanted) onMigrated?.(applied);
    return database;
  } catch (reason) {
    await database[Symbol.asyncDispose]();
    throw reason;
  }
}
