import { sql } from 'kysely';
import type { Db } from '../database.ts';

export interface PrunedEvents {
  readonly events: number;
  readonly deliveries: number;
  readonly violations: number;
}

/**
 * Removes events, deliveries that are through and violations once they are old. What a webhook
 * still waits for stays. The audit log is never pruned here.
 */
export async function pruneEvents(
  db: Db,
  { olderThanMs }: { readonly olderThanMs: number },
): Promise<PrunedEvents> {
  const oldest = sql<number>`${db.now} - ${sql.lit(Math.round(olderThanMs))}`;
  const deliveries = await db.k
    .deleteFrom('webhook_deliveries')
    .where('next_at', 'is', null)
    .where('created_at', '<', oldest)
    .executeTakeFirst();
  const events = await db.k
    .deleteFrom('events')
    .where('created_at', '<', oldest)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('webhook_deliveries as d')
            .select('d.id')
            .whereRef('d.tenant_id', '=', 'events.tenant_id')
            .whereRef('d.event_seq', '=', 'events.seq')
            .where('d.next_at', 'is not', null),
        ),
      ),
    )
    .executeTakeFirst();
  const violations = await db.k
    .deleteFrom('quota_violations')
    .where('created_at', '<', oldest)
    .executeTakeFirst();
  return {
    events: Number(events.numDeletedRows),
    deliveries: Number(deliveries.numDeletedRows),
    violations: Number(violations.numDeletedRows),
  };
}
