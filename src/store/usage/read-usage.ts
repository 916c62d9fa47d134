import { ACTIVE_STATES } from '../../core/build-state.ts';
import type { TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger, readText } from '../row-values.ts';
import { utcDay } from './utc-day.ts';

/** One day's counters; names of the service's UsageDay. */
export interface UsageDayRecord {
  readonly day: string;
  readonly buildsCreated: number;
  readonly buildsCompleted: number;
  readonly buildsFailed: number;
  readonly buildsCancelled: number;
  readonly buildMs: number;
  readonly cpuUs: number;
  readonly pulledBytes: number;
  readonly writtenBytes: number;
  readonly servedBytes: number;
}

/** Builds that an executor holds, and builds that wait. */
export async function countBuilds(
  db: Db,
  tenantId: TenantId,
): Promise<{ readonly active: number; readonly queued: number }> {
  const active = await db.k
    .selectFrom('builds')
    .select((eb) => eb.fn.countAll().as('count'))
    .where('tenant_id', '=', tenantId)
    // Said for the sake of the index: a claim is what makes a build active.
    .where('owner', 'is not', null)
    .where('state', 'in', ACTIVE_STATES)
    .executeTakeFirst();
  const queued = await db.k
    .selectFrom('builds')
    .select((eb) => eb.fn.countAll().as('count'))
    .where('tenant_id', '=', tenantId)
    .where('state', '=', 'pending')
    .executeTakeFirst();
  return {
    active: readInteger(active?.count, 'count'),
    queued: readInteger(queued?.count, 'count'),
  };
}

/** Today's counters by the database's clock: zeros before the first build of the day. */
export async function usageToday(db: Db, tenantId: TenantId): Promise<UsageDayRecord> {
  const row = await db.k
    .selectFrom('usage_daily')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .where('day', '=', utcDay(db))
    .executeTakeFirst();
  return parseUsageRow({ day: '', ...row });
}

/** Milliseconds of builds since the tenant exists. */
export async function totalBuildMs(db: Db, tenantId: TenantId): Promise<number> {
  const row = await db.k
    .selectFrom('usage_daily')
    .select((eb) => eb.fn.sum('build_ms').as('total'))
    .where('tenant_id', '=', tenantId)
    .executeTakeFirst();
  return readInteger(row?.total ?? 0, 'usage_daily.build_ms');
}

/** Days from `from` to `to`, both inclusive, oldest first; days without use are left out. */
export async function usageDays(
  db: Db,
  tenantId: TenantId,
  { from, to, limit }: { readonly from: string; readonly to: string; readonly limit: number },
): Promise<readonly UsageDayRecord[]> {
  const rows = await db.k
    .selectFrom('usage_daily')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .where('day', '>=', from)
    .where('day', '<=', to)
    .orderBy('day')
    .limit(limit)
    .execute();
  return rows.map((row) => parseUsageRow({ ...row }));
}

function parseUsageRow(row: { readonly [column: string]: unknown }): UsageDayRecord {
  const count = (column: string): number => readInteger(row[column] ?? 0, `usage_daily.${column}`);
  return {
    day: readText(row['day'], 'usage_daily.day'),
    buildsCreated: count('builds_created'),
    buildsCompleted: count('builds_completed'),
    buildsFailed: count('builds_failed'),
    buildsCancelled: count('builds_cancelled'),
    buildMs: count('build_ms'),
    cpuUs: count('cpu_us'),
    pulledBytes: count('pulled_bytes'),
    writtenBytes: count('written_bytes'),
    servedBytes: count('served_bytes'),
  };
}
