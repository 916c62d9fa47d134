import { DatabaseSync } from 'node:sqlite';
import { Kysely, sql } from 'kysely';
import type { Db } from '../database.ts';
import { migrate } from '../migrate.ts';
import type { Schema } from '../schema.ts';
import { sqliteDialect } from '../sqlite-driver.ts';
import { TransactionScope } from '../transaction-scope.ts';
import { readPostgresShape } from './postgres-shape.ts';
import { readSqliteShape } from './sqlite-shape.ts';
import { compareShapes, type DatabaseShape } from './table-shape.ts';

/**
 * Compares tables, columns, keys and indexes with what the migrations make, and gives the
 * differences as lines for people: none when all is as it should be.
 */
export async function validateSchema(db: Db): Promise<readonly string[]> {
  const found =
    db.dialect === 'sqlite' ? await readSqliteShape(db.k) : await readPostgresShape(db.k);
  return compareShapes(await wantedShape(), found);
}

/** Lines of SQLite's own check of the file; none when it is sound. Reads all of it. */
export async function checkFile(db: Db): Promise<readonly string[]> {
  if (db.dialect !== 'sqlite') return [];
  const { rows } = await sql<{ integrity_check: unknown }>`pragma integrity_check(20)`.execute(
    db.k,
  );
  return rows.map((row) => String(row.integrity_check)).filter((line) => line !== 'ok');
}

/** The migrations themselves say it, in a database that lives as long as this call. */
async function wantedShape(): Promise<DatabaseShape> {
  const file = new DatabaseSync(':memory:');
  const k = new Kysely<Schema>({ dialect: sqliteDialect(file, new TransactionScope()) });
  try {
    await migrate(k, { dialect: 'sqlite' });
    return await readSqliteShape(k);
  } finally {
    await k.destroy();
  }
}
