import { type BuildId, parseBuildId, parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { readNow } from '../read-now.ts';
import { effectiveQuotas } from '../tenants/effective-quotas.ts';

const DAY_MS = 24 * 60 * 60_000;
const PAGE = 500;

export interface ExpiredBuild {
  readonly tenantId: TenantId;
  readonly buildId: BuildId;
}

/**
 * Builds that ended longer ago than their tenant's retention, at most `limit`. By the database's
 * clock. The caller tombstones them like a delete.
 */
export async function findExpiredBuilds(
  db: Db,
  { limit, defaults = {} }: { readonly limit: number; readonly defaults?: Partial<Quotas> },
): Promise<readonly ExpiredBuild[]> {
  const now = await readNow(db);
  const found: ExpiredBuild[] = [];
  let after = '';
  for (;;) {
    const tenants = await db.k
      .selectFrom('tenants')
      .select(['id', 'tier', 'overrides'])
      .where('id', '>', after)
      .orderBy('id')
      .limit(PAGE)
      .execute();
    for (const tenant of tenants) {
      const { retentionDays } = effectiveQuotas(tenant, defaults);
      const tenantId = parseTenantId(tenant.id);
      const rows = await db.k
        .selectFrom('builds')
        .select('id')
        .where('tenant_id', '=', tenantId)
        // Ids begin with the time they were made: an index range instead of the whole tenant.
        .where('id', '<', firstIdOf(now - retentionDays * DAY_MS))
        .where('deleted_at', 'is', null)
        .where('finished_at', '<', now - retentionDays * DAY_MS)
        .orderBy('id')
        .limit(limit - found.length)
        .execute();
      found.push(...rows.map(({ id }) => ({ tenantId, buildId: parseBuildId(id) })));
      if (found.length >= limit) return found;
    }
    const last = tenants.at(-1);
    if (last === undefined || tenants.length < PAGE) return found;
    after = last.id;
  }
}

/** Lower bound of the UUIDv7s of a millisecond. An hour is added for hosts whose clock runs ahead. */
function firstIdOf(timeMs: number): string {
  const hex = Math.max(0, timeMs + 60 * 60_000)
    .toString(16)
    .padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}
