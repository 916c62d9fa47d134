import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';

export interface Controls {
  /** Attempt numbers of the builds that the executor holds, by build. */
  readonly held: ReadonlyMap<string, number>;
  /** Builds among them that somebody wants cancelled. */
  readonly cancelled: ReadonlySet<string>;
}

/** What an executor has to know at once. One small read through an index: cheap enough to poll. */
export async function readControls(db: Db, owner: string): Promise<Controls> {
  const rows = await db.k
    .selectFrom('builds')
    .select(['id', 'attempt', 'cancel_requested_at'])
    .where('owner', '=', owner)
    .execute();
  const cancelled = rows.filter((row) => row.cancel_requested_at !== null);
  return {
    held: new Map(rows.map((row) => [row.id, readInteger(row.attempt, 'builds.attempt')])),
    cancelled: new Set(cancelled.map(({ id }) => id)),
  };
}
