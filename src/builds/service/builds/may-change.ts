import { BuilderdError } from '../../../core/errors.ts';
import type { Caller, TenantRef } from '../caller.ts';

/** A second look behind the API's own: throws `api.forbidden` for readers and for other tenants. */
export function assertMayChange(caller: Caller, tenant: TenantRef): void {
  if (caller.role === 'reader') {
    throw new BuilderdError('api.forbidden', 'Cannot change builds: the token may only read');
  }
  if (caller.tenants !== 'all' && !caller.tenants.has(tenant.name)) {
    throw new BuilderdError('api.forbidden', 'Cannot change builds: they are of another tenant');
  }
}
