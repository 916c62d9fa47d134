import { BuilderdError } from '../../core/errors.ts';
import type { Quotas } from '../../core/quotas.ts';
import { isObject } from '../row-values.ts';
import { parseQuotaValue, QUOTA_NAMES } from './quota-values.ts';

/** `null` takes an override away. */
export type QuotaChange = { readonly [K in keyof Quotas]?: Quotas[K] | null };

/**
 * Parses an object of quotas from outside. Byte counts may be whole numbers or sizes such as
 * `16GiB`; everything else must be exactly of its type. Throws `api.invalid`.
 */
export function parseQuotaChange(raw: unknown): QuotaChange {
  if (!isObject(raw)) throw invalid('Cannot read the quotas: want a JSON object');
  const unknown = Object.keys(raw).find((key) => !QUOTA_NAMES.some((name) => name === key));
  if (unknown !== undefined) {
    const wanted = QUOTA_NAMES.join(', ');
    throw invalid(
      `Cannot use quota ${JSON.stringify(unknown.slice(0, 60))}: there are ${wanted} only`,
    );
  }
  return Object.fromEntries(
    QUOTA_NAMES.filter((name) => Object.hasOwn(raw, name) && raw[name] !== undefined).map(
      (name) => [name, raw[name] === null ? null : parseQuotaValue(name, raw[name])],
    ),
  );
}

/** The overrides after a change. */
export function applyQuotaChange(overrides: Partial<Quotas>, change: QuotaChange): Partial<Quotas> {
  const merged: Record<string, unknown> = { ...overrides, ...change };
  const kept = QUOTA_NAMES.filter((name) => merged[name] !== null && merged[name] !== undefined);
  return Object.fromEntries(kept.map((name) => [name, merged[name]]));
}

function invalid(message: string): BuilderdError {
  return new BuilderdError('api.invalid', message);
}
