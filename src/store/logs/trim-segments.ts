import type { Db } from '../database.ts';

/**
 * Removes a log from the database. Only in or after the transaction that writes the row of the
 * artifact `build.log`: readers look there next.
 */
export async function trimSegments(tx: Db, buildId: string): Promise<void> {
  await tx.k.deleteFrom('log_segments').where('build_id', '=', buildId).execute();
}
