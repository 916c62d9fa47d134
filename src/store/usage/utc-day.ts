import { type RawBuilder, sql } from 'kysely';
import type { Db } from '../database.ts';

/** Today in UTC by the database's clock, `2026-11-23`: what daily quotas count by. */
export function utcDay(db: Db): RawBuilder<string> {
  return db.dialect === 'sqlite'
    ? sql<string>`strftime('%Y-%m-%d', ${db.now} / 1000, 'unixepoch')`
    : sql<string>`to_char(to_timestamp(${db.now} / 1000) at time zone 'UTC', 'YYYY-MM-DD')`;
}
