import { BuilderdError } from '../../../core/errors.ts';
import type { TenantName } from '../../../core/ids.ts';
import type { Caller, TenantRef } from '../caller.ts';

/**
 * Throws `api.forbidden` for everyone but operators: of this tenant, or without one, of all. A
 * token issuer may make somebody an operator of some tenants only.
 */
export function requireOperator(caller: Caller, doing: string, tenant?: TenantName): void {
  const isMeant = tenant === undefined ? caller.tenants === 'all' : mayActFor(caller, tenant);
  if (caller.role === 'operator' && isMeant) return;
  throw new BuilderdError('api.forbidden', `Cannot ${doing}: only an operator may`);
}

/** Throws `api.forbidden` for callers that may only read. */
export function requireWriter(caller: Caller, doing: string): void {
  if (caller.role !== 'reader') return;
  throw new BuilderdError('api.forbidden', `Cannot ${doing}: this token may only read`);
}

/** Whether the caller may act for this tenant; `TenantRef`s are checked again where they grant something. */
export function mayActFor(caller: Caller, name: TenantName): boolean {
  return caller.tenants === 'all' ? caller.role === 'operator' : caller.tenants.has(name);
}

export function requireTenant(caller: Caller, tenant: TenantRef, doing: string): void {
  if (mayActFor(caller, tenant.name)) return;
  throw new BuilderdError(
    'api.forbidden',
    `Cannot ${doing}: the caller may not act for this tenant`,
  );
}
