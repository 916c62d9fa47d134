import { sql } from 'kysely';
import { parseTenantId, parseTenantName, type TenantId, type TenantName } from '../../core/ids.ts';
import type { Database, Db } from '../database.ts';
import { type EventRecord, parseEventRow } from '../events/read-events.ts';
import { readBytes, readInteger, readOptionalInteger, readText } from '../row-values.ts';

/** One delivery that this process may try now. Its `attempt` is the fence of what follows. */
export interface ClaimedDelivery {
  readonly id: string;
  /** Counts from 1. */
  readonly attempt: number;
  readonly createdAt: number;
  readonly webhook: {
    readonly id: string;
    readonly url: string;
    readonly sealed: Uint8Array;
    readonly lastSuccessAt?: number;
  };
  readonly tenantId: TenantId;
  readonly tenant: TenantName;
  /** Absent when retention has removed it meanwhile. */
  readonly event?: EventRecord;
}

/** How long a claim holds; longer than an attempt may take. Then anyone may try again. */
export const DELIVERY_LEASE_MS = 60_000;

export interface ClaimDeliveries {
  readonly limit: number;
  /** Of them, and of those that are being sent, for one tenant: its slow receivers hold up nobody else's. */
  readonly perTenant: number;
  /**
   * Webhooks that this process is sending to already, with their tenants: one at a time keeps the
   * order mostly.
   */
  readonly busy: ReadonlyMap<string, TenantId>;
  readonly signal: AbortSignal;
}

/**
 * The oldest due delivery of each webhook, for at most `limit` webhooks: first one of each tenant,
 * then second ones, and of those the ones that have waited longest for a try.
 */
export async function claimDeliveries(
  database: Database,
  { limit, perTenant, busy, signal }: ClaimDeliveries,
): Promise<readonly ClaimedDelivery[]> {
  const held = new Map<string, number>();
  for (const tenantId of busy.values()) held.set(tenantId, (held.get(tenantId) ?? 0) + 1);
  const full = [...held].filter(([, count]) => count >= perTenant).map(([tenantId]) => tenantId);
  const due = await findDue(database, {
    busy: [...busy.keys()],
    full,
    perTenant,
    limit: limit + busy.size,
  });
  const claimed: ClaimedDelivery[] = [];
  for (const { webhookId, tenantId } of due) {
    if (claimed.length === limit) break;
    const count = held.get(tenantId) ?? 0;
    if (count >= perTenant) continue;
    const claim = await database.transaction((tx) => claimOne(tx, webhookId), { signal });
    if (claim === undefined) continue;
    claimed.push(claim);
    held.set(tenantId, count + 1);
  }
  return claimed;
}

async function findDue(
  db: Db,
  {
    busy,
    full,
    perTenant,
    limit,
  }: {
    readonly busy: readonly string[];
    readonly full: readonly string[];
    readonly perTenant: number;
    readonly limit: number;
  },
): Promise<readonly { readonly webhookId: string; readonly tenantId: string }[]> {
  const rows = await db.k
    .selectFrom((eb) =>
      eb
        .selectFrom('webhook_deliveries as d')
        .innerJoin('webhooks as w', 'w.id', 'd.webhook_id')
        .select([
          'd.webhook_id',
          'd.tenant_id',
          sql<number>`coalesce(max(w.last_at), 0)`.as('last_at'),
          sql<number>`min(d.next_at)`.as('since'),
          sql<number>`row_number() over (
            partition by d.tenant_id order by coalesce(max(w.last_at), 0), min(d.next_at)
          )`.as('nth'),
        ])
        .where('d.next_at', '<=', db.now)
        .where('w.active', '=', 1)
        .$if(busy.length > 0, (query) => query.where('d.webhook_id', 'not in', busy))
        .$if(full.length > 0, (query) => query.where('d.tenant_id', 'not in', full))
        .groupBy(['d.webhook_id', 'd.tenant_id'])
        .as('ready'),
    )
    .select(['ready.webhook_id', 'ready.tenant_id'])
    .where('ready.nth', '<=', perTenant)
    .orderBy('ready.nth')
    .orderBy('ready.last_at')
    .orderBy('ready.since')
    .limit(limit)
    .execute();
  return rows.map((row) => ({ webhookId: row.webhook_id, tenantId: row.tenant_id }));
}

async function claimOne(tx: Db, webhookId: string): Promise<ClaimedDelivery | undefined> {
  const next = await tx.k
    .selectFrom('webhook_deliveries as d')
    .innerJoin('webhooks as w', 'w.id', 'd.webhook_id')
    .innerJoin('tenants as t', 't.id', 'd.tenant_id')
    .select([
      'd.id',
      'd.attempts',
      'd.event_seq',
      'd.created_at',
      'w.url',
      'w.sealed',
      'w.last_success_at',
      't.id as tenant_id',
      't.name as tenant',
    ])
    .where('d.webhook_id', '=', webhookId)
    .where('d.next_at', '<=', tx.now)
    .where('w.active', '=', 1)
    .orderBy('d.event_seq')
    .limit(1)
    .executeTakeFirst();
  if (next === undefined) return undefined;
  const attempts = readInteger(next.attempts, 'webhook_deliveries.attempts');
  const taken = await tx.k
    .updateTable('webhook_deliveries')
    .set({
      attempts: attempts + 1,
      next_at: sql<number>`${tx.now} + ${sql.lit(DELIVERY_LEASE_MS)}`,
    })
    .where('id', '=', next.id)
    .where('attempts', '=', attempts)
    .where('next_at', '<=', tx.now)
    .executeTakeFirst();
  if (Number(taken.numUpdatedRows) === 0) return undefined;
  const event = await tx.k
    .selectFrom('events')
    .select(['seq', 'type', 'build_id', 'created_at', 'data'])
    .where('tenant_id', '=', next.tenant_id)
    .where('seq', '=', next.event_seq)
    .executeTakeFirst();
  const lastSuccessAt = readOptionalInteger(next.last_success_at, 'webhooks.last_success_at');
  return {
    id: next.id,
    attempt: attempts + 1,
    createdAt: readInteger(next.created_at, 'webhook_deliveries.created_at'),
    webhook: {
      id: webhookId,
      url: readText(next.url, 'webhooks.url'),
      sealed: readBytes(next.sealed, 'webhooks.sealed'),
      ...(lastSuccessAt === undefined ? {} : { lastSuccessAt }),
    },
    tenantId: parseTenantId(next.tenant_id),
    tenant: parseTenantName(next.tenant),
    ...(event === undefined ? {} : { event: parseEventRow({ ...event }) }),
  };
}

export interface DeliveryResult {
  readonly delivered: boolean;
  readonly status?: number;
  /** For the tenant to read. */
  readonly error?: string;
  /** When to try again; absent when it is through, delivered or given up. */
  readonly retryInMs?: number;
}

/** Notes what became of an attempt. False when the claim ran out and another process has it. */
export async function finishDelivery(
  tx: Db,
  claim: ClaimedDelivery,
  result: DeliveryResult,
): Promise<boolean> {
  const { retryInMs } = result;
  const outcome = { status: result.status ?? null, last_error: result.error ?? null };
  const done = await tx.k
    .updateTable('webhook_deliveries')
    .set({
      ...outcome,
      next_at:
        retryInMs === undefined ? null : sql<number>`${tx.now} + ${sql.lit(Math.round(retryInMs))}`,
      ...(result.delivered ? { delivered_at: tx.now } : {}),
    })
    .where('id', '=', claim.id)
    .where('attempts', '=', claim.attempt)
    .where('next_at', 'is not', null)
    .executeTakeFirst();
  if (Number(done.numUpdatedRows) === 0) return false;
  await tx.k
    .updateTable('webhooks')
    .set({
      last_at: tx.now,
      last_status: outcome.status,
      last_error: outcome.last_error,
      ...(result.delivered ? { last_success_at: tx.now } : {}),
    })
    .where('id', '=', claim.webhook.id)
    .execute();
  return true;
}
