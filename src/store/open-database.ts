import type { Database, DatabaseConfig } from './database.ts';
import type { OpenDatabaseOptions } from './open-options.ts';

/**
 * Opens and, unless told otherwise, migrates. Tries once: throws `database.unavailable` when it
 * cannot be reached, `database.schema` for tables of another version, `host.permission` and
 * `host.unsupported` for a directory that must not hold an SQLite file, `config.invalid` for the URL.
 */
export async function openDatabase(
  config: DatabaseConfig,
  options: OpenDatabaseOptions,
): Promise<Database> {
  // A process works on one of them, and keeps what it loads: only that one is loaded.
  if (config.type === 'sqlite') {
    const { openSqlite } = await import('./open-sqlite.ts');
    return await openSqlite(config.directory, options);
  }
  const { openPostgres } = await import('./open-postgres.ts');
  return await openPostgres(config.url, options);
}
