import { type RawBuilder, sql } from 'kysely';
import type { Db } from '../database.ts';

export interface PrunedEvents {
  readonly events: number;
  readonly deliveries: number;
  readonly violations: number;
}

/** Rows that one statement removes: short enough that writers need not wait long. */
const BATCH = 2000;

/**
 * Removes events, deliveries that are through and violations once they are old. A delivery that
 * waits for an event this old is given up. The audit log is never pruned. Not inside a transaction:
 * each batch is one of its own.
 */
export async function pruneEvents(
  db: Db,
  { olderThanMs, batch = BATCH }: { readonly olderThanMs: number; readonly batch?: number },
): Promise<PrunedEvents> {
  const oldest = sql<number>`${db.now} - ${sql.lit(Math.round(olderThanMs))}`;
  return {
    events: await repeat(batch, () => pruneEventRows(db, oldest, batch)),
    deliveries: await repeat(batch, () => pruneDeliveries(db, oldest, batch)),
    violations: await repeat(batch, () => pruneViolations(db, oldest, batch)),
  };
}

async function repeat(batch: number, step: () => Promise<number>): Promise<number> {
  let total = 0;
  for (;;) {
    const removed = await step();
    total += removed;
    if (removed < batch) return total;
  }
}

async function pruneEventRows(db: Db, oldest: RawBuilder<number>, batch: number): Promise<number> {
  const done = await db.k
    .deleteFrom('events')
    .where((eb) =>
      eb(
        eb.refTuple('tenant_id', 'seq'),
        'in',
        eb
          .selectFrom('events')
          .select(['tenant_id', 'seq'])
          .where('created_at', '<', oldest)
          .orderBy('created_at')
          .limit(batch)
          .$asTuple('tenant_id', 'seq'),
      ),
    )
    .executeTakeFirst();
  return Number(done.numDeletedRows);
}

async function pruneDeliveries(db: Db, oldest: RawBuilder<number>, batch: number): Promise<number> {
  const done = await db.k
    .deleteFrom('webhook_deliveries')
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('webhook_deliveries')
        .select('id')
        .where('next_at', 'is', null)
        .where('created_at', '<', oldest)
        .limit(batch),
    )
    .executeTakeFirst();
  return Number(done.numDeletedRows);
}

async function pruneViolations(db: Db, oldest: RawBuilder<number>, batch: number): Promise<number> {
  const done = await db.k
    .deleteFrom('quota_violations')
    .where('id', 'in', (eb) =>
      eb.selectFrom('quota_violations').select('id').where('created_at', '<', oldest).limit(batch),
    )
    .executeTakeFirst();
  return Number(done.numDeletedRows);
}
