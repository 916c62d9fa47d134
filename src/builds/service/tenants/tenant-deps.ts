import type { Log } from '../../../core/log.ts';
import type { Quotas, Tier } from '../../../core/quotas.ts';
import type { Database } from '../../../store/database.ts';
import type { SealedSecrets } from '../../../store/secrets/sealed-secrets.ts';

/** What the largest executor host has; quotas beyond it are refused with the numbers. */
export interface HostCapacity {
  readonly memoryBytes: number;
  readonly cpuCores: number;
  readonly diskBytes: number;
}

export interface TenantServiceOptions {
  readonly database: Database;
  readonly secrets: SealedSecrets;
  readonly log: Log;
  /** TENANT_DEFAULT_*: tier and overrides of a tenant that is made without any. */
  readonly newTenants: { readonly tier: Tier; readonly overrides: Partial<Quotas> };
  /**
   * Makes a tenant when a name that the caller's credential holds is first used; in development mode
   * any name. Never for operators.
   */
  readonly createMissing: boolean;
  readonly hostCapacity?: HostCapacity;
}
