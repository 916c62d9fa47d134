import type { TenantService } from '../tenant-service.ts';
import { manageCredentials } from './manage-credentials.ts';
import { manageTenants } from './manage-tenants.ts';
import { manageTokens } from './manage-tokens.ts';
import { readTenants } from './read-tenants.ts';
import type { TenantServiceOptions } from './tenant-deps.ts';

/** The TenantService over a database. Holds nothing: any number of processes may have one. */
export function createTenantService(options: TenantServiceOptions): TenantService {
  return {
    ...manageTenants(options),
    ...manageTokens(options),
    ...manageCredentials(options),
    ...readTenants(options),
  };
}
