import type { Quotas } from '../../../core/quotas.ts';
import { formatBytes } from '../../../core/units.ts';
import { safeJson } from '../client/bounded-json.ts';
import { QUOTA_KINDS } from '../quota-values.ts';
import type { Tenant } from '../client/answers.ts';
import { table } from './table.ts';
import { told } from './told.ts';

type Values = Readonly<Record<string, unknown>>;

/** A value with its unit, as `quota set` takes it. */
export function quotaText(key: string, value: unknown): string {
  const kind = Object.hasOwn(QUOTA_KINDS, key) ? QUOTA_KINDS[key as keyof Quotas] : undefined;
  if (Array.isArray(value) && value.every((each) => typeof each === 'string')) {
    return value.length === 0 ? 'none' : value.join(',');
  }
  if (typeof value === 'object' && value !== null) return safeJson(value);
  if (typeof value !== 'number') return String(value);
  switch (kind) {
    case 'bytes':
      return formatBytes(value);
    case 'minutes':
      return `${value} min`;
    case 'seconds':
      return `${value} s`;
    case 'days':
      return `${value} d`;
    default:
      return String(value);
  }
}

export function quotaTable(quotas: Values, overrides: Values): string {
  const rows = Object.entries(quotas).map(([key, value]) => [
    key,
    quotaText(key, value),
    Object.hasOwn(overrides, key) ? 'override' : 'tier',
  ]);
  return table(['QUOTA', 'VALUE', 'FROM'], rows);
}

/** What a change does, before and after; or that it does nothing. */
export function changeText(
  before: Tenant,
  after: Tenant,
  { dryRun }: { readonly dryRun: boolean },
): string {
  const rows = [
    ...(before.tier === after.tier ? [] : [['tier', before.tier, after.tier]]),
    ...Object.entries(after.quotas)
      .map(([key, value]) => [key, quotaText(key, before.quotas[key]), quotaText(key, value)])
      .filter(([, old, now]) => old !== now),
  ];
  const tail = dryRun ? 'Nothing was changed: this was a dry run\n' : '';
  if (rows.length === 0) return told`Tenant ${after.name} is as it was\n` + tail;
  return `${table(['TENANT ' + after.name, 'BEFORE', 'AFTER'], rows)}${tail}`;
}
