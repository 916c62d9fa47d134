import { ACTIVE_STATES } from '../../core/build-state.ts';
import type { QuotaType, Quotas } from '../../core/quotas.ts';
import type { Db } from '../../store/database.ts';
import { readInteger, readText } from '../../store/row-values.ts';
import { effectiveQuotas } from '../../store/tenants/effective-quotas.ts';
import { utcDay } from '../../store/usage/utc-day.ts';
import type { TenantGauges } from './metrics.ts';

export interface QueueGauges {
  readonly size: number;
  readonly oldestMs: number;
}

/** How many builds wait, and for how long the oldest of them has. */
export async function readQueueGauges(db: Db): Promise<QueueGauges> {
  const row = await db.k
    .selectFrom('builds')
    .select((eb) => [
      eb.fn.countAll().as('size'),
      eb.fn.min('created_at').as('oldest'),
      db.now.as('now'),
    ])
    .where('state', '=', 'pending')
    .where('deleted_at', 'is', null)
    .executeTakeFirstOrThrow();
  const size = readInteger(row.size, 'count of builds');
  const oldestMs =
    size === 0 ? 0 : readInteger(row.now, 'now') - readInteger(row.oldest, 'builds.created_at');
  return { size, oldestMs: Math.max(0, oldestMs) };
}

/** The most recently changed tenants, at most `limit`, with what they use of their quotas. */
export async function readTenantGauges(
  db: Db,
  { limit }: { readonly limit: number },
): Promise<TenantGauges[]> {
  const tenants = await db.k
    .selectFrom('tenants')
    .select(['id', 'name', 'tier', 'overrides', 'storage_bytes'])
    .orderBy('updated_at', 'desc')
    .orderBy('id')
    .limit(limit)
    .execute();
  const builds = await db.k
    .selectFrom('builds')
    .select((eb) => ['tenant_id', 'state', eb.fn.countAll().as('count')])
    .where('state', 'in', ['pending', ...ACTIVE_STATES])
    .where('deleted_at', 'is', null)
    .groupBy(['tenant_id', 'state'])
    .execute();
  const days = await db.k
    .selectFrom('usage_daily')
    .select(['tenant_id', 'builds_created', 'build_ms'])
    .where('day', '=', utcDay(db))
    // Named one by one, for the sake of the key: the table holds every day of every tenant.
    .where('tenant_id', 'in', tenants.length === 0 ? [''] : tenants.map(({ id }) => id))
    .execute();
  const active = new Map<string, number>();
  const queued = new Map<string, number>();
  for (const { tenant_id, state, count } of builds) {
    const into = state === 'pending' ? queued : active;
    into.set(tenant_id, (into.get(tenant_id) ?? 0) + readInteger(count, 'count of builds'));
  }
  const today = new Map(days.map((day) => [day.tenant_id, day]));
  return tenants.map((row) => {
    const day = today.get(row.id);
    return {
      tenant: readText(row.name, 'tenants.name'),
      usage: {
        concurrent_builds: active.get(row.id) ?? 0,
        queued_builds: queued.get(row.id) ?? 0,
        daily_builds:
          day === undefined ? 0 : readInteger(day.builds_created, 'usage.builds_created'),
        compute: day === undefined ? 0 : readInteger(day.build_ms, 'usage.build_ms') / 60_000,
        storage: readInteger(row.storage_bytes, 'tenants.storage_bytes'),
      },
      limits: limitsOf(effectiveQuotas({ tier: row.tier, overrides: row.overrides })),
    };
  });
}

/** In the same units as the usage: builds, minutes, bytes. */
function limitsOf(quotas: Quotas): Partial<Record<QuotaType, number>> {
  return {
    concurrent_builds: quotas.maxConcurrentBuilds,
    queued_builds: quotas.maxQueuedBuilds,
    daily_builds: quotas.maxDailyBuilds,
    compute: quotas.maxDailyComputeMinutes,
    storage: quotas.maxStorageBytes,
    memory: quotas.maxMemoryBytes,
    cpu: quotas.maxCpuCores,
    disk: quotas.maxDiskBytes,
    build_time: quotas.maxBuildMinutes,
    requests: quotas.requestsPerMinute,
  };
}

/** Bytes of all artifacts of all tenants. */
export async function readStoredBytes(db: Db): Promise<number> {
  const { bytes } = await db.k
    .selectFrom('tenants')
    .select((eb) => eb.fn.coalesce(eb.fn.sum('storage_bytes'), eb.lit(0)).as('bytes'))
    .executeTakeFirstOrThrow();
  return Number(bytes);
}
