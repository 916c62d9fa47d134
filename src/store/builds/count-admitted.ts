import { sql } from 'kysely';
import type { TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import { utcDay } from '../usage/utc-day.ts';

/** What the quotas of admission are compared with. */
export interface Admitted {
  readonly queued: number;
  /** Accepted on this UTC day, also those deleted since. */
  readonly createdToday: number;
  /** Time that builds ran on this UTC day. */
  readonly buildMsToday: number;
  /** Until the next UTC day begins. */
  readonly msToMidnight: number;
  /** Of deleted builds, still in the store: that room is not the tenant's again before they are gone. */
  readonly releasedBytes: number;
}

const DAY_MS = 86_400_000;

/** True until the transaction ends only while the tenant's row is locked. */
export async function countAdmitted(tx: Db, tenantId: TenantId): Promise<Admitted> {
  const { queued, now, released } = await tx.k
    .selectFrom('builds')
    .select((eb) => [
      eb.fn.countAll().as('queued'),
      tx.now.as('now'),
      // With the same statement: a create is one round trip shorter.
      eb
        .selectFrom('condemned_blobs')
        .select((sub) => sub.fn.coalesce(sub.fn.sum('stored_bytes'), sub.lit(0)).as('bytes'))
        .where('tenant_id', '=', tenantId)
        .where('kind', '=', 'released')
        .as('released'),
    ])
    .where('tenant_id', '=', tenantId)
    // Written out, or the index of the queue is not used.
    .where('state', '=', sql.lit('pending'))
    .executeTakeFirstOrThrow();
  const day = await tx.k
    .selectFrom('usage_daily')
    .select(['builds_created', 'build_ms'])
    .where('tenant_id', '=', tenantId)
    .where('day', '=', utcDay(tx))
    .executeTakeFirst();
  return {
    queued: readInteger(queued, 'count'),
    createdToday: readInteger(day?.builds_created ?? 0, 'usage_daily.builds_created'),
    buildMsToday: readInteger(day?.build_ms ?? 0, 'usage_daily.build_ms'),
    msToMidnight: DAY_MS - (readInteger(now, 'now') % DAY_MS),
    releasedBytes: readInteger(released, 'sum'),
  };
}
