import { BUILD_STATES, isTerminal } from '../../core/build-state.ts';
import type { Db } from '../database.ts';
import { readInteger, readOneOf } from '../row-values.ts';

export interface LogHead {
  /** Number of the next entry. */
  readonly entries: number;
  /** The build is over: no entry follows. */
  readonly over: boolean;
}

const MAX_IDS = 200;

/** How far the logs of these builds have come; builds that were deleted are left out. */
export async function readLogHeads(
  db: Db,
  buildIds: readonly string[],
): Promise<ReadonlyMap<string, LogHead>> {
  const heads = new Map<string, LogHead>();
  for (let start = 0; start < buildIds.length; start += MAX_IDS) {
    const rows = await db.k
      .selectFrom('builds')
      .select(['id', 'state', 'log_entries'])
      .where('id', 'in', buildIds.slice(start, start + MAX_IDS))
      .where('deleted_at', 'is', null)
      .execute();
    for (const row of rows) {
      heads.set(row.id, {
        entries: readInteger(row.log_entries, 'builds.log_entries'),
        over: isTerminal(readOneOf(BUILD_STATES, row.state, 'builds.state')),
      });
    }
  }
  return heads;
}
