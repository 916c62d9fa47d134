import { type Tenant, tenant } from '../client/answers.ts';
import type { Session } from '../session.ts';

/** The path names the tenant: X-Tenant-ID, which may be another's, is left out. */
export function getTenant({ client, signal }: Session, name: string): Promise<Tenant> {
  return client.ask(tenantPath(name), tenant, { doing: 'get the tenant', inTenant: false, signal });
}

/** A change of exactly what was read before: another's change in between is a conflict. */
export function patchTenant(
  { client, signal }: Session,
  before: Tenant,
  change: object,
  { dryRun }: { readonly dryRun: boolean },
): Promise<Tenant> {
  return client.ask(tenantPath(before.name), tenant, {
    method: 'PATCH',
    doing: 'change the tenant',
    inTenant: false,
    query: { dryRun: dryRun ? true : undefined },
    headers: { 'if-match': `"${before.version}"` },
    body: change,
    signal,
  });
}

const tenantPath = (name: string): string => `/v1/tenants/${encodeURIComponent(name)}`;
