import { BuilderdError } from '../../../core/errors.ts';
import type { Db } from '../../../store/database.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import type { TenantRecord } from '../../../store/tenants/tenant-record.ts';
import type { Caller, TenantRef } from '../caller.ts';

/**
 * The tenant's row, locked until the transaction ends. A suspended tenant makes nothing that
 * outlasts its suspension; its operator may. Throws `api.forbidden`, `api.not_found`.
 */
export async function holdActiveTenant(
  tx: Db,
  caller: Caller,
  { id, name }: TenantRef,
  doing: string,
): Promise<TenantRecord> {
  const tenant = await findTenantById(tx, id, { lock: true });
  if (tenant === undefined) {
    throw new BuilderdError('api.not_found', `Cannot ${doing}: there is no tenant ${name}`);
  }
  if (!tenant.suspended || caller.role === 'operator') return tenant;
  throw new BuilderdError('api.forbidden', `Cannot ${doing}: the tenant is suspended`);
}
