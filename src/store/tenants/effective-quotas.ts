import { type Quotas, TIER_QUOTAS, TIERS } from '../../core/quotas.ts';
import { readJsonObject, readOneOf } from '../row-values.ts';
import { parseQuotaValue, QUOTA_NAMES } from './quota-values.ts';

/**
 * What a tenant may use: its tier's values with the operator's overrides over them. Takes a parsed
 * record or a row of `tenants`; `defaults` lie between tier and overrides.
 */
export function effectiveQuotas(
  tenant: {
    readonly tier: string;
    /** Parsed, or the JSON of the row. */
    readonly overrides: Partial<Quotas> | string;
  },
  defaults: Partial<Quotas> = {},
): Quotas {
  const { overrides } = tenant;
  return {
    ...TIER_QUOTAS[readOneOf(TIERS, tenant.tier, 'tenants.tier')],
    ...defaults,
    ...(typeof overrides === 'string' ? parseStoredOverrides(overrides) : overrides),
  };
}

/** Names that a newer builderd wrote are left out; a bad value of a known name throws `internal`. */
export function parseStoredOverrides(text: unknown): Partial<Quotas> {
  const stored = readJsonObject(text, 'tenants.overrides');
  const parsed = QUOTA_NAMES.filter((name) => Object.hasOwn(stored, name)).map((name) => [
    name,
    parseQuotaValue(name, stored[name], 'internal'),
  ]);
  return Object.fromEntries(parsed);
}
