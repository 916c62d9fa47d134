import type { EventType } from '../../core/event-types.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import { queueDeliveries } from '../webhooks/queue-deliveries.ts';

export interface NewEvent {
  readonly tenantId: string;
  readonly buildId?: string;
  readonly type: EventType;
  /** Shown to the tenant and sent to its webhooks: no secrets, no host paths. */
  readonly data: Readonly<Record<string, string | number | boolean>>;
}

/**
 * Writes one event and the deliveries to the webhooks that want it; gives its number. Only inside a
 * transaction: the number is taken from the tenant's row, whose lock makes the order of numbers the
 * order of commits. The caller rings `events` once the transaction is through.
 */
export async function appendEvent(tx: Db, event: NewEvent): Promise<number> {
  const tenant = await tx.k
    .updateTable('tenants')
    .set((eb) => ({ event_seq: eb('event_seq', '+', 1) }))
    .where('id', '=', event.tenantId)
    .returning('event_seq')
    .executeTakeFirst();
  if (tenant === undefined) {
    throw new BuilderdError('internal', 'Cannot write an event: its tenant does not exist');
  }
  const seq = readInteger(tenant.event_seq, 'tenants.event_seq');
  await tx.k
    .insertInto('events')
    .values({
      tenant_id: event.tenantId,
      seq,
      build_id: event.buildId ?? null,
      type: event.type,
      data: JSON.stringify(event.data),
      created_at: tx.now,
    })
    .execute();
  await queueDeliveries(tx, { tenantId: event.tenantId, type: event.type, seq });
  return seq;
}
