import { newId, type TenantName } from '../../core/ids.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Quotas, Tier } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { findTenant } from './find-tenant.ts';
import type { TenantRecord } from './tenant-record.ts';

export interface NewTenant {
  readonly name: TenantName;
  readonly tier: Tier;
  readonly overrides: Partial<Quotas>;
}

/** The tenant of this name, made if there is none. `created` tells which; what exists stays as it is. */
export async function ensureTenant(
  tx: Db,
  wish: NewTenant,
): Promise<{ readonly tenant: TenantRecord; readonly created: boolean }> {
  const inserted = await tx.k
    .insertInto('tenants')
    .values({
      id: newId(),
      name: wish.name,
      tier: wish.tier,
      overrides: JSON.stringify(wish.overrides),
      suspended: 0,
      created_at: tx.now,
      updated_at: tx.now,
    })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .returning('id')
    .execute();
  const tenant = await findTenant(tx, wish.name);
  if (tenant === undefined) {
    throw new BuilderdError('api.conflict', 'Cannot make the tenant: it was removed meanwhile');
  }
  return { tenant, created: inserted.length > 0 };
}
