import type { Database, DatabaseConfig } from './database.ts';
import type { OpenDatabaseOptions } from './open-options.ts';
import { openPostgres } from './open-postgres.ts';
import { openSqlite } from './open-sqlite.ts';

/**
 * Opens and, unless told otherwise, migrates. Tries once: throws `database.unavailable` when it
 * cannot be reached, `database.schema` for tables of another version, `host.permission` and
 * `host.unsupported` for a directory that must not hold an SQLite file, `config.invalid` for the URL.
 */
export async function openDatabase(
  config: DatabaseConfig,
  options: OpenDatabaseOptions,
): Promise<Database> {
  return config.type === 'sqlite'
    ? await openSqlite(config.directory, options)
    : await openPostgres(config.url, options);
}
