import { BuilderdError } from '../../core/errors.ts';
import type { Quotas } from '../../core/quotas.ts';
import { parseSize } from '../../core/units.ts';
import { closestTo } from '../closest.ts';
import { parsePairs, parseSeconds } from './command-kit.ts';

type Kind = 'count' | 'number' | 'bytes' | 'minutes' | 'seconds' | 'days' | 'switch' | 'hosts';

export const QUOTA_KINDS: Readonly<Record<keyof Quotas, Kind>> = {
  maxConcurrentBuilds: 'count',
  maxQueuedBuilds: 'count',
  maxDailyBuilds: 'count',
  maxDailyComputeMinutes: 'minutes',
  maxBuildMinutes: 'minutes',
  timeoutSeconds: 'seconds',
  maxMemoryBytes: 'bytes',
  maxCpuCores: 'number',
  maxDiskBytes: 'bytes',
  maxStorageBytes: 'bytes',
  allowExternalNetwork: 'switch',
  allowedRegistries: 'hosts',
  allowedGitHosts: 'hosts',
  encryption: 'switch',
  retentionDays: 'days',
  requestsPerMinute: 'count',
  requestBurst: 'count',
  weight: 'count',
};

export type QuotaValue = number | boolean | readonly string[] | null;

/** `key=value` texts, in units for people, to what the API takes. `default` takes an override away. */
export function parseQuotaPairs(texts: readonly string[]): Readonly<Record<string, QuotaValue>> {
  const values = Object.entries(parsePairs(texts, 'the quota')).map(
    ([key, text]): [string, QuotaValue] => {
      const kind = Object.hasOwn(QUOTA_KINDS, key) ? QUOTA_KINDS[key as keyof Quotas] : undefined;
      if (kind === undefined) throw unknownQuota(key);
      return [key, text === 'default' ? null : parseQuota(key, kind, text)];
    },
  );
  return Object.fromEntries(values);
}

function parseQuota(key: string, kind: Kind, text: string): QuotaValue {
  switch (kind) {
    case 'bytes':
      return parseSize(text, key);
    case 'minutes':
      return /^\d+$/.test(text) ? whole(key, text) : inUnits(key, text, 60, 'minutes');
    case 'seconds':
      return /^\d+$/.test(text) ? whole(key, text) : parseSeconds(text, key);
    case 'days':
      return /^\d+$/.test(text) ? whole(key, text) : inUnits(key, text, 86_400, 'days');
    case 'number':
      if (/^\d{1,6}(?:\.\d{1,6})?$/.test(text)) return Number(text);
      throw bad(key, text, 'a number such as 1.5');
    case 'switch':
      if (text === 'true' || text === 'false') return text === 'true';
      throw bad(key, text, 'true or false');
    case 'hosts':
      return text === '' ? [] : text.split(',').map((each) => each.trim());
    default:
      return whole(key, text);
  }
}

function whole(key: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw bad(key, text, 'a whole number');
}

function inUnits(key: string, text: string, unit: number, name: string): number {
  const units = parseSeconds(text, key) / unit;
  if (Number.isInteger(units)) return units;
  throw bad(key, text, `whole ${name}`);
}

function bad(key: string, text: string, wanted: string): BuilderdError {
  return new BuilderdError(
    'usage.invalid',
    `Cannot use ${key}=${JSON.stringify(text.slice(0, 80))}: want ${wanted}, or default`,
  );
}

function unknownQuota(key: string): BuilderdError {
  const names = Object.keys(QUOTA_KINDS);
  const near = closestTo(key, names);
  return new BuilderdError(
    'usage.invalid',
    `Cannot set ${JSON.stringify(key.slice(0, 60))}: there is no such quota; ${
      near === undefined ? `there are ${names.join(', ')}` : `did you mean ${near}?`
    }`,
  );
}
