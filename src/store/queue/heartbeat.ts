import type { Db } from '../database.ts';
import { readOptionalInteger } from '../row-values.ts';
import type { Fenced } from './claim.ts';

export interface Beat {
  readonly buildId: string;
  readonly attempt: number;
  /** The claim has ended: nothing may be written for it any more, and its work must stop. */
  readonly lost: boolean;
  readonly cancelRequested: boolean;
  readonly deadlineAt?: number;
}

/**
 * Prolongs the leases of an executor, by the database's clock. A lease that has ended is not
 * prolonged, even if nobody took the build yet: its holder should have stopped by itself.
 */
export async function heartbeat(
  db: Db,
  {
    owner,
    claims,
    leaseMs,
  }: {
    readonly owner: string;
    readonly claims: readonly Pick<Fenced, 'buildId' | 'attempt'>[];
    readonly leaseMs: number;
  },
): Promise<readonly Beat[]> {
  if (claims.length === 0) return [];
  const rows = await db.k
    .updateTable('builds')
    .set((eb) => ({ lease_until: eb(db.now, '+', leaseMs) }))
    .where('owner', '=', owner)
    .where((eb) => eb('lease_until', '>', db.now))
    .where((eb) => eb.or(claims.map(({ buildId, attempt }) => eb.and({ id: buildId, attempt }))))
    .returning(['id', 'cancel_requested_at', 'deadline_at'])
    .execute();
  const renewed = new Map(rows.map((row) => [row.id, row]));
  return claims.map(({ buildId, attempt }) => {
    const row = renewed.get(buildId);
    if (row === undefined) return { buildId, attempt, lost: true, cancelRequested: false };
    const deadlineAt = readOptionalInteger(row.deadline_at, 'builds.deadline_at');
    return {
      buildId,
      attempt,
      lost: false,
      cancelRequested: row.cancel_requested_at !== null,
      ...(deadlineAt === undefined ? {} : { deadlineAt }),
    };
  });
}
