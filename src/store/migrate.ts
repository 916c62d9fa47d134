import { type Kysely, sql } from 'kysely';
import { BuilderdError } from '../core/errors.ts';
import type { DialectName } from './dialect-name.ts';
import { MIGRATIONS } from './migrations/all-migrations.ts';
import type { Migration } from './migrations/migration-context.ts';
import { readText } from './row-values.ts';

/** Any number that no one else takes: migrators of one database wait for each other on it. */
const ADVISORY_LOCK = 0x6275_696c_6465_7264n & 0x7fff_ffff_ffff_ffffn;
const WAIT_LIMIT = '15min';
const KEY = 'migration:';

export interface MigrateOptions {
  readonly dialect: DialectName;
  /** Tests give others. */
  readonly migrations?: readonly Migration[];
}

/**
 * Brings the tables to this version in one transaction, and gives the names of what it ran. Several
 * may start at once: one works, the others wait and find nothing to do. Repeating is a no-op.
 * Throws `database.schema` for a database that a newer builderd wrote.
 */
export async function migrate<S>(
  k: Kysely<S>,
  { dialect, migrations = MIGRATIONS }: MigrateOptions,
): Promise<readonly string[]> {
  return await k.transaction().execute(async (tx) => {
    if (dialect === 'postgres') {
      await sql.raw(`set local statement_timeout = '${WAIT_LIMIT}'`).execute(tx);
      await sql.raw(`set local lock_timeout = '${WAIT_LIMIT}'`).execute(tx);
      await sql.raw(`select pg_advisory_xact_lock(${ADVISORY_LOCK})`).execute(tx);
    }
    const strict = dialect === 'sqlite' ? ' strict' : '';
    await sql
      .raw(
        `create table if not exists "meta" ("key" text not null primary key, "value" text not null)${strict}`,
      )
      .execute(tx);
    const missing = missingOf(await appliedNames(tx), migrations);
    for (const { name, up } of missing) {
      await up(tx, { dialect });
      await sql`insert into "meta" ("key", "value") values (${KEY + name}, ${new Date().toISOString()})`.execute(
        tx,
      );
    }
    return missing.map(({ name }) => name);
  });
}

/** Throws `database.schema` unless the tables are of this version. */
export async function checkMigrated<S>(
  k: Kysely<S>,
  { dialect, migrations = MIGRATIONS }: MigrateOptions,
): Promise<void> {
  if (!(await hasMeta(k, dialect))) {
    throw new BuilderdError('database.schema', 'Cannot use the database: it has no tables yet');
  }
  const missing = missingOf(await appliedNames(k), migrations);
  if (missing.length === 0) return;
  throw new BuilderdError(
    'database.schema',
    `Cannot use the database: it lacks ${missing.map(({ name }) => name).join(', ')}`,
  );
}

async function hasMeta<S>(k: Kysely<S>, dialect: DialectName): Promise<boolean> {
  const found =
    dialect === 'sqlite'
      ? sql`select 1 from sqlite_schema where type = 'table' and name = 'meta'`
      : sql`select 1 where to_regclass('meta') is not null`;
  return (await found.execute(k)).rows.length > 0;
}

async function appliedNames<S>(k: Kysely<S>): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ key: unknown }>`
    select "key" from "meta" where "key" like ${`${KEY}%`}`.execute(k);
  return new Set(rows.map(({ key }) => readText(key, 'meta.key').slice(KEY.length)));
}

function missingOf(
  applied: ReadonlySet<string>,
  migrations: readonly Migration[],
): readonly Migration[] {
  const known = new Set(migrations.map(({ name }) => name));
  const newer = [...applied].filter((name) => !known.has(name));
  if (newer.length > 0) {
    throw new BuilderdError(
      'database.schema',
      `Cannot use the database: a newer builderd wrote it (${newer.toSorted().join(', ').slice(0, 200)})`,
    );
  }
  return migrations.filter(({ name }) => !applied.has(name));
}
