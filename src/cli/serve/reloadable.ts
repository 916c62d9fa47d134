import type { Config } from '../config.ts';
import type { SettingName } from '../settings.ts';
import type { RoleName } from './role-protocol.ts';

/** What a running service takes over on SIGHUP. Everything else waits for a restart. */
export const RELOADABLE = {
  api: [
    'BUILD_TIMEOUT',
    'BUILD_MEMORY',
    'BUILD_DISK',
    'DOCKER_ALLOWED_REGISTRIES',
    'TENANT_DEFAULT_TIER',
  ],
  executor: [
    'MAX_CONCURRENT_BUILDS',
    'DOCKER_ALLOWED_REGISTRIES',
    'DOCKER_PULL_POLICY',
    'DOCKER_PULL_TIMEOUT',
    'DOCKER_TIMEOUT',
    'ENABLE_ENCRYPTION',
    'STORAGE_RETENTION_DAYS',
    'STORAGE_MAX_SIZE_GB',
    'CLEANUP_INTERVAL',
  ],
} as const satisfies Record<RoleName, readonly SettingName[]>;

/** Both roles and the supervisor. */
export const RELOADABLE_EVERYWHERE = [
  'LOG_LEVEL',
  'SHUTDOWN_TIMEOUT',
] as const satisfies readonly SettingName[];

/** Meaningful to one role only: the other does not call them pending. */
const OF_ONE_ROLE: Readonly<Record<RoleName, readonly SettingName[]>> = {
  api: RELOADABLE.api.filter((name) => !RELOADABLE.executor.some((each) => each === name)),
  executor: RELOADABLE.executor.filter((name) => !RELOADABLE.api.some((each) => each === name)),
};

export function isOthersBusiness(role: RoleName, name: SettingName): boolean {
  return OF_ONE_ROLE[role === 'api' ? 'executor' : 'api'].includes(name);
}

/** Names whose values differ. */
export function changedSettings(before: Config, after: Config): SettingName[] {
  return after.names.filter(
    (name) => JSON.stringify(before.settings[name]) !== JSON.stringify(after.settings[name]),
  );
}
