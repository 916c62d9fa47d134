import { BuilderdError } from '../../../core/errors.ts';
import type { Caller, TenantRef } from '../caller.ts';

/** Throws `api.forbidden` for everyone but operators. */
export function requireOperator(caller: Caller, doing: string): void {
  if (caller.role === 'operator') return;
  throw new BuilderdError('api.forbidden', `Cannot ${doing}: only an operator may`);
}

/** Throws `api.forbidden` for callers that may only read. */
export function requireWriter(caller: Caller, doing: string): void {
  if (caller.role !== 'reader') return;
  throw new BuilderdError('api.forbidden', `Cannot ${doing}: this token may only read`);
}

/** Whether the caller may act for this tenant; `TenantRef`s are checked again where they grant something. */
export function mayActFor(caller: Caller, name: TenantRef['name']): boolean {
  return caller.tenants === 'all' ? caller.role === 'operator' : caller.tenants.has(name);
}

export function requireTenant(caller: Caller, tenant: TenantRef, doing: string): void {
  if (mayActFor(caller, tenant.name)) return;
  throw new BuilderdError(
    'api.forbidden',
    `Cannot ${doing}: the caller may not act for this tenant`,
  );
}
