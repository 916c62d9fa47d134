import { sql } from 'kysely';
import type { EventType } from '../../core/event-types.ts';
import { newId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { parseEach } from '../parse-each.ts';
import { readInteger } from '../row-values.ts';
import { DELIVERY_LEASE_MS } from './delivery-rows.ts';
import { parseWebhookEvents } from './webhook-record.ts';

/** Deliveries that may wait for one webhook: a receiver that is away must not fill the database. */
export const MAX_PENDING_DELIVERIES = 1000;
/** Given up by one event at most; only a cap that was lowered leaves more for the next. */
const GIVEN_UP_AT_ONCE = 100;

/** For each webhook of the tenant that wants the event. The caller holds the tenant's row. */
export async function queueDeliveries(
  tx: Db,
  {
    tenantId,
    type,
    seq,
  }: { readonly tenantId: string; readonly type: EventType; readonly seq: number },
  { mostPending = MAX_PENDING_DELIVERIES }: { readonly mostPending?: number } = {},
): Promise<void> {
  const hooks = await tx.k
    .selectFrom('webhooks')
    .select(['id', 'events'])
    .where('tenant_id', '=', tenantId)
    .where('active', '=', 1)
    .execute();
  const { parsed, unreadable } = parseEach(hooks, ({ id, events }) => ({
    id,
    events: parseWebhookEvents(events),
  }));
  for (const { row } of unreadable) await disableUnreadable(tx, row.id);
  for (const hook of parsed) {
    if (!hook.events.includes(type)) continue;
    await tx.k
      .insertInto('webhook_deliveries')
      .values({
        id: newId(),
        webhook_id: hook.id,
        tenant_id: tenantId,
        event_seq: seq,
        next_at: tx.now,
        status: null,
        last_error: null,
        delivered_at: null,
        created_at: tx.now,
      })
      .execute();
    await giveUpOldest(tx, hook.id, mostPending);
  }
}

/** It would keep every event of its tenant from being written, and with that every build. */
async function disableUnreadable(tx: Db, webhookId: string): Promise<void> {
  await tx.k
    .updateTable('webhooks')
    .set({ active: 0, disabled_reason: 'the list of its events cannot be read' })
    .where('id', '=', webhookId)
    .execute();
}

/** Gives up the oldest that wait beyond `mostPending`, and counts them; not one that is being sent. */
async function giveUpOldest(tx: Db, webhookId: string, mostPending: number): Promise<void> {
  const waiting = tx.k
    .selectFrom('webhook_deliveries')
    .where('webhook_id', '=', webhookId)
    .where('next_at', 'is not', null);
  const row = await waiting.select((eb) => eb.fn.countAll().as('count')).executeTakeFirst();
  const surplus = readInteger(row?.count, 'count') - mostPending;
  if (surplus <= 0) return;
  const oldest = await waiting
    .select('id')
    .where((eb) =>
      eb.or([
        eb('attempts', '=', 0),
        eb('next_at', '<=', tx.now),
        eb('next_at', '>', sql<number>`${tx.now} + ${sql.lit(DELIVERY_LEASE_MS)}`),
      ]),
    )
    .orderBy('event_seq')
    .limit(Math.min(surplus, GIVEN_UP_AT_ONCE))
    .execute();
  if (oldest.length === 0) return;
  const ids = oldest.map(({ id }) => id);
  await tx.k
    .updateTable('webhook_deliveries')
    .set({ next_at: null, last_error: `given up: ${mostPending} newer ones wait` })
    .where('id', 'in', ids)
    .execute();
  await tx.k
    .updateTable('webhooks')
    .set((eb) => ({ dropped: eb('dropped', '+', ids.length) }))
    .where('id', '=', webhookId)
    .execute();
}
