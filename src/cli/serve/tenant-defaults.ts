import type { Quotas } from '../../core/quotas.ts';
import type { Config } from '../config.ts';
import type { SettingName } from '../settings.ts';

const DEFAULTS = {
  TENANT_DEFAULT_MAX_MEMORY_BYTES: 'maxMemoryBytes',
  TENANT_DEFAULT_MAX_CPU_CORES: 'maxCpuCores',
  TENANT_DEFAULT_MAX_DISK_BYTES: 'maxDiskBytes',
  TENANT_DEFAULT_TIMEOUT_SECONDS: 'timeoutSeconds',
  TENANT_DEFAULT_MAX_CONCURRENT_BUILDS: 'maxConcurrentBuilds',
  TENANT_DEFAULT_MAX_DAILY_BUILDS: 'maxDailyBuilds',
  TENANT_DEFAULT_MAX_STORAGE_BYTES: 'maxStorageBytes',
  TENANT_DEFAULT_MAX_BUILD_TIME_MINUTES: 'maxBuildMinutes',
} as const satisfies Partial<Record<SettingName, keyof Quotas>>;

type DefaultName = keyof typeof DEFAULTS;

export const tenantDefaultNames: readonly DefaultName[] = [
  'TENANT_DEFAULT_MAX_MEMORY_BYTES',
  'TENANT_DEFAULT_MAX_CPU_CORES',
  'TENANT_DEFAULT_MAX_DISK_BYTES',
  'TENANT_DEFAULT_TIMEOUT_SECONDS',
  'TENANT_DEFAULT_MAX_CONCURRENT_BUILDS',
  'TENANT_DEFAULT_MAX_DAILY_BUILDS',
  'TENANT_DEFAULT_MAX_STORAGE_BYTES',
  'TENANT_DEFAULT_MAX_BUILD_TIME_MINUTES',
];

/** Those that the operator gives stand over the tier of a new tenant; the rest is the tier's. */
export function tenantDefaults({
  settings,
  given,
}: Pick<Config, 'settings' | 'given'>): Partial<Quotas> {
  const named = tenantDefaultNames.filter((name) => given.has(name));
  return Object.fromEntries(named.map((name) => [DEFAULTS[name], settings[name]]));
}
