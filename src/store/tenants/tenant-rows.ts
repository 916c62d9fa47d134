import { sql } from 'kysely';
import { BuilderdError } from '../../core/errors.ts';
import type { TenantId, TenantName } from '../../core/ids.ts';
import type { Quotas, Tier } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { findTenantById } from './find-tenant.ts';
import { parseTenantRow, type TenantRecord } from './tenant-record.ts';

/** By name. With `names`, only those of them that exist. */
export async function listTenants(
  db: Db,
  { names, limit }: { readonly names?: readonly TenantName[]; readonly limit: number },
): Promise<readonly TenantRecord[]> {
  if (names?.length === 0) return [];
  const rows = await db.k
    .selectFrom('tenants')
    .selectAll()
    .$if(names !== undefined, (query) => query.where('name', 'in', names ?? []))
    .orderBy('name')
    .limit(limit)
    .execute();
  return rows.map((row) => parseTenantRow({ ...row }));
}

/** Writes what an operator may change, and raises the version. The caller holds the row's lock. */
export async function updateTenant(
  tx: Db,
  id: TenantId,
  change: {
    readonly tier: Tier;
    readonly suspended: boolean;
    readonly overrides: Partial<Quotas>;
  },
): Promise<TenantRecord> {
  await tx.k
    .updateTable('tenants')
    .set({
      tier: change.tier,
      suspended: change.suspended ? 1 : 0,
      overrides: JSON.stringify(change.overrides),
      version: sql`version + 1`,
      updated_at: tx.now,
    })
    .where('id', '=', id)
    .execute();
  const tenant = await findTenantById(tx, id);
  if (tenant === undefined) throw new BuilderdError('api.not_found', 'Cannot find the tenant');
  return tenant;
}
