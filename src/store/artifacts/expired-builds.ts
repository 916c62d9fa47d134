import type { BuilderdError } from '../../core/errors.ts';
import { type BuildId, parseBuildId, parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { parseEach } from '../parse-each.ts';
import { readNow } from '../read-now.ts';
import { effectiveQuotas } from '../tenants/effective-quotas.ts';

const DAY_MS = 24 * 60 * 60_000;
const PAGE = 500;

export interface ExpiredBuild {
  readonly tenantId: TenantId;
  readonly buildId: BuildId;
}

export interface ExpiredBuildsOptions {
  readonly limit: number;
  readonly defaults?: Partial<Quotas>;
  /** The last one of the page before. */
  readonly after?: ExpiredBuild;
  /** Hears of tenants and builds whose rows cannot be read: they are passed over. */
  readonly onBadRow?: (id: string, reason: BuilderdError) => void;
}

/**
 * Builds that ended longer ago than their tenant's retention, at most `limit`. By the database's
 * clock. The caller tombstones them like a delete.
 */
export async function findExpiredBuilds(
  db: Db,
  options: ExpiredBuildsOptions,
): Promise<readonly ExpiredBuild[]> {
  const { limit, defaults = {}, after, onBadRow } = options;
  const now = await readNow(db);
  const found: ExpiredBuild[] = [];
  let from: string = after?.tenantId ?? '';
  for (;;) {
    const tenants = await db.k
      .selectFrom('tenants')
      .select(['id', 'tier', 'overrides'])
      .where('id', '>=', from)
      .orderBy('id')
      .limit(PAGE)
      .execute();
    const { parsed, unreadable } = parseEach(tenants, (row) => ({
      tenantId: parseTenantId(row.id),
      before: now - effectiveQuotas(row, defaults).retentionDays * DAY_MS,
    }));
    for (const { row, reason } of unreadable) onBadRow?.(row.id, reason);
    for (const tenant of parsed) {
      const page = {
        after: after?.tenantId === tenant.tenantId ? after.buildId : '',
        limit: limit - found.length,
      };
      found.push(...(await expiredOf(db, { ...tenant, ...page }, onBadRow)));
      if (found.length >= limit) return found;
    }
    const last = tenants.at(-1);
    if (last === undefined || tenants.length < PAGE) return found;
    // The smallest text after it.
    from = `${last.id}\u0001`;
  }
}

async function expiredOf(
  db: Db,
  {
    tenantId,
    before,
    after,
    limit,
  }: {
    readonly tenantId: TenantId;
    readonly before: number;
    readonly after: string;
    readonly limit: number;
  },
  onBadRow: ExpiredBuildsOptions['onBadRow'],
): Promise<readonly ExpiredBuild[]> {
  const found: ExpiredBuild[] = [];
  for (let from = after; ; ) {
    const rows = await db.k
      .selectFrom('builds')
      .select('id')
      .where('tenant_id', '=', tenantId)
      .where('id', '>', from)
      // Ids begin with the time they were made: an index range instead of the whole tenant.
      .where('id', '<', firstIdOf(before))
      .where('deleted_at', 'is', null)
      .where('finished_at', '<', before)
      .orderBy('id')
      .limit(limit - found.length)
      .execute();
    const { parsed, unreadable } = parseEach(rows, ({ id }) => parseBuildId(id));
    for (const { row, reason } of unreadable) onBadRow?.(row.id, reason);
    found.push(...parsed.map((buildId) => ({ tenantId, buildId })));
    const last = rows.at(-1);
    if (last === undefined || unreadable.length === 0) return found;
    // In the place of those that were passed over.
    from = last.id;
  }
}

/** Lower bound of the UUIDv7s of a millisecond. An hour is added for hosts whose clock runs ahead. */
function firstIdOf(timeMs: number): string {
  const hex = Math.max(0, timeMs + 60 * 60_000)
    .toString(16)
    .padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}
