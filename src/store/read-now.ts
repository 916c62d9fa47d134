import { sql } from 'kysely';
import type { Db } from './database.ts';
import { readInteger } from './row-values.ts';

/** The database's clock, in milliseconds since 1970: what `deadline_at` and its like count by. */
export async function readNow(db: Db): Promise<number> {
  const { rows } = await sql<{ now: unknown }>`select ${db.now} as now`.execute(db.k);
  return readInteger(rows[0]?.now, 'now');
}
