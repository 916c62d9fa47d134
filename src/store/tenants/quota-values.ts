import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { type Quotas, TIER_QUOTAS } from '../../core/quotas.ts';
import { parseSize } from '../../core/units.ts';

export type QuotaName = keyof Quotas;

type Kind =
  | { readonly kind: 'count' | 'bytes'; readonly min: number; readonly max: number }
  | { readonly kind: 'flag' }
  | { readonly kind: 'hosts' };

const MIB = 1024 ** 2;
const PIB = 1024 ** 5;
const count = (min: number, max: number): Kind => ({ kind: 'count', min, max });
const bytes = (min: number): Kind => ({ kind: 'bytes', min, max: PIB });

/** What each quota may be. A zero that would shut a tenant out is `suspended`, not a quota. */
const KINDS: { readonly [K in QuotaName]: Kind } = {
  maxConcurrentBuilds: count(1, 10_000),
  maxQueuedBuilds: count(1, 1_000_000),
  maxDailyBuilds: count(1, 10_000_000),
  maxDailyComputeMinutes: count(1, 1_000_000_000),
  maxBuildMinutes: count(1, 24 * 60),
  timeoutSeconds: count(1, 24 * 3600),
  maxMemoryBytes: bytes(64 * MIB),
  maxCpuCores: count(1, 4096),
  maxDiskBytes: bytes(MIB),
  maxStorageBytes: bytes(MIB),
  allowExternalNetwork: { kind: 'flag' },
  allowedRegistries: { kind: 'hosts' },
  allowedGitHosts: { kind: 'hosts' },
  encryption: { kind: 'flag' },
  retentionDays: count(1, 36_500),
  requestsPerMinute: count(1, 10_000_000),
  requestBurst: count(1, 1_000_000),
  weight: count(1, 100_000),
};

const MAX_HOSTS = 200;
const HOST = /^(?:\*|(?:\*\.)?[a-z0-9](?:[a-z0-9._-]{0,252})(?::[1-9]\d{0,4})?)$/;

export const QUOTA_NAMES: readonly QuotaName[] = Object.keys(TIER_QUOTAS.free).filter(
  (name): name is QuotaName => Object.hasOwn(KINDS, name),
);

/** The type of the value is that of the name; the table above holds both together. */
export function parseQuotaValue<K extends QuotaName>(
  name: K,
  value: unknown,
  fault: 'api.invalid' | 'internal' = 'api.invalid',
): Quotas[K] {
  const parsed = valueOf(KINDS[name], value);
  // The kind that was checked is the kind of this name.
  if (parsed.ok) return parsed.value as Quotas[K];
  throw new BuilderdError(fault, `Cannot use ${shown(value)} as ${name}: want ${parsed.wanted}`);
}

type Parsed =
  | { readonly ok: true; readonly value: number | boolean | readonly string[] }
  | { readonly ok: false; readonly wanted: string };

function valueOf(kind: Kind, value: unknown): Parsed {
  switch (kind.kind) {
    case 'flag':
      return typeof value === 'boolean'
        ? { ok: true, value }
        : { ok: false, wanted: 'true or false' };
    case 'hosts':
      return hostsOf(value);
    case 'count':
      return within(value, kind, `a whole number from ${kind.min} to ${kind.max}`);
    case 'bytes':
      return within(
        typeof value === 'string' ? sizeOf(value) : value,
        kind,
        `bytes as a whole number or a size such as 16GiB, from ${kind.min} to ${kind.max}`,
      );
    default:
      return kind satisfies never;
  }
}

function within(
  value: unknown,
  { min, max }: { min: number; max: number },
  wanted: string,
): Parsed {
  const fits =
    typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
  return fits ? { ok: true, value } : { ok: false, wanted };
}

function sizeOf(text: string): number | undefined {
  try {
    return parseSize(text, 'size');
  } catch (reason) {
    if (isBuilderdError(reason, 'usage.invalid')) return undefined;
    throw reason;
  }
}

function hostsOf(value: unknown): Parsed {
  const wanted = `a list of at most ${MAX_HOSTS} host names, *.suffixes or *`;
  if (!Array.isArray(value) || value.length > MAX_HOSTS) return { ok: false, wanted };
  const hosts = value.filter(
    (item: unknown): item is string => typeof item === 'string' && HOST.test(item),
  );
  return hosts.length === value.length ? { ok: true, value: hosts } : { ok: false, wanted };
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? typeof value).slice(0, 80);
}
