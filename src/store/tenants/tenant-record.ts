import { parseTenantId, parseTenantName, type TenantId, type TenantName } from '../../core/ids.ts';
import { type Quotas, type Tier, TIERS } from '../../core/quotas.ts';
import { readInteger, readOneOf, readText } from '../row-values.ts';
import { effectiveQuotas, parseStoredOverrides } from './effective-quotas.ts';

/** A tenant as the database knows it. */
export interface TenantRecord {
  readonly id: TenantId;
  readonly name: TenantName;
  readonly tier: Tier;
  readonly suspended: boolean;
  readonly overrides: Partial<Quotas>;
  /** Tier and overrides together. */
  readonly quotas: Quotas;
  readonly storageBytes: number;
  readonly eventSeq: number;
  readonly version: number;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** A row of `tenants`; throws `internal` for one that builderd cannot have written. */
export function parseTenantRow(row: { readonly [column: string]: unknown }): TenantRecord {
  const tier = readOneOf(TIERS, row['tier'], 'tenants.tier');
  const overrides = parseStoredOverrides(row['overrides']);
  return {
    id: parseTenantId(readText(row['id'], 'tenants.id')),
    name: parseTenantName(readText(row['name'], 'tenants.name')),
    tier,
    suspended: readInteger(row['suspended'], 'tenants.suspended') !== 0,
    overrides,
    quotas: effectiveQuotas({ tier, overrides }),
    storageBytes: readInteger(row['storage_bytes'], 'tenants.storage_bytes'),
    eventSeq: readInteger(row['event_seq'], 'tenants.event_seq'),
    version: readInteger(row['version'], 'tenants.version'),
    createdAt: readInteger(row['created_at'], 'tenants.created_at'),
    updatedAt: readInteger(row['updated_at'], 'tenants.updated_at'),
  };
}
