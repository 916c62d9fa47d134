import { BuilderdError } from '../../core/errors.ts';
import type { EventType } from '../../core/event-types.ts';
import type { TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import { parseWebhookRow, type WebhookRecord } from './webhook-record.ts';

const SHOWN_COLUMNS = [
  'id',
  'url',
  'events',
  'active',
  'disabled_reason',
  'last_at',
  'last_status',
  'last_error',
  'dropped',
  'created_at',
] as const;

export interface NewWebhook {
  /** Made before, because the secret is sealed for it. */
  readonly id: string;
  readonly tenantId: TenantId;
  readonly url: string;
  readonly events: readonly EventType[];
  readonly sealed: Uint8Array;
}

export async function insertWebhook(tx: Db, webhook: NewWebhook): Promise<WebhookRecord> {
  const row = await tx.k
    .insertInto('webhooks')
    .values({
      id: webhook.id,
      tenant_id: webhook.tenantId,
      url: webhook.url,
      events: JSON.stringify(webhook.events),
      sealed: webhook.sealed,
      active: 1,
      disabled_reason: null,
      last_at: null,
      last_status: null,
      last_error: null,
      last_success_at: null,
      created_at: tx.now,
      updated_at: tx.now,
    })
    .returning(SHOWN_COLUMNS)
    .executeTakeFirst();
  if (row === undefined) throw new BuilderdError('internal', 'Cannot read back a new webhook');
  return parseWebhookRow({ ...row, pending: 0 });
}

export async function listWebhooks(db: Db, tenantId: TenantId): Promise<readonly WebhookRecord[]> {
  const rows = await db.k
    .selectFrom('webhooks')
    .select(SHOWN_COLUMNS)
    .select((eb) =>
      eb
        .selectFrom('webhook_deliveries as d')
        .select((each) => each.fn.countAll().as('count'))
        .whereRef('d.webhook_id', '=', 'webhooks.id')
        .where('d.next_at', 'is not', null)
        .as('pending'),
    )
    .where('tenant_id', '=', tenantId)
    .orderBy('id')
    .execute();
  return rows.map((row) => parseWebhookRow({ ...row }));
}

export async function countWebhooks(db: Db, tenantId: TenantId): Promise<number> {
  const row = await db.k
    .selectFrom('webhooks')
    .select((eb) => eb.fn.countAll().as('count'))
    .where('tenant_id', '=', tenantId)
    .executeTakeFirst();
  return readInteger(row?.count, 'count');
}

/** With everything that waited for it. The caller holds the tenant's lock, as `appendEvent` does. */
export async function deleteWebhook(
  tx: Db,
  tenantId: TenantId,
  id: string,
): Promise<WebhookRecord | undefined> {
  const row = await tx.k
    .deleteFrom('webhooks')
    .where('tenant_id', '=', tenantId)
    .where('id', '=', id)
    .returning(SHOWN_COLUMNS)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  await tx.k.deleteFrom('webhook_deliveries').where('webhook_id', '=', id).execute();
  return parseWebhookRow({ ...row, pending: 0 });
}

/**
 * Sends to it again: what happens from now on. The caller holds the tenant's lock, as `appendEvent`
 * does. Gives what it was before; undefined when the tenant has none with this id.
 */
export async function enableWebhook(
  tx: Db,
  tenantId: TenantId,
  id: string,
): Promise<{ readonly before: WebhookRecord; readonly after: WebhookRecord } | undefined> {
  const before = (await listWebhooks(tx, tenantId)).find((hook) => hook.id === id);
  if (before === undefined || before.active) {
    return before === undefined ? undefined : { before, after: before };
  }
  const row = await tx.k
    .updateTable('webhooks')
    .set({ active: 1, disabled_reason: null, updated_at: tx.now })
    .where('tenant_id', '=', tenantId)
    .where('id', '=', id)
    .returning(SHOWN_COLUMNS)
    .executeTakeFirst();
  return row === undefined
    ? undefined
    : { before, after: parseWebhookRow({ ...row, pending: before.pendingDeliveries }) };
}

/** Sends nothing more to it, until somebody enables it again. False when it was off already. */
export async function disableWebhook(tx: Db, id: string, reason: string): Promise<boolean> {
  const done = await tx.k
    .updateTable('webhooks')
    .set({ active: 0, disabled_reason: reason, updated_at: tx.now })
    .where('id', '=', id)
    .where('active', '=', 1)
    .executeTakeFirst();
  await tx.k
    .updateTable('webhook_deliveries')
    .set({ next_at: null, last_error: 'the webhook was disabled' })
    .where('webhook_id', '=', id)
    .where('next_at', 'is not', null)
    .execute();
  return Number(done.numUpdatedRows) > 0;
}
