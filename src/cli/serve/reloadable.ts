import type { Config } from '../config.ts';
import type { SettingName } from '../settings.ts';

/** What a running service takes over on SIGHUP. Everything else waits for a restart. */
export const RELOADABLE = [
  'LOG_LEVEL',
  'RATE_LIMIT',
  'MAX_CONCURRENT_BUILDS',
  'BUILD_TIMEOUT',
  'BUILD_MEMORY',
  'MIN_FREE_DISK',
  'DOCKER_PULL_POLICY',
  'DOCKER_PULL_TIMEOUT',
  'CLEANUP_INTERVAL',
  'STORAGE_RETENTION_DAYS',
  'SHUTDOWN_TIMEOUT',
  'ALLOWED_HOSTS',
  'TLS_CERT_FILE',
  'TLS_KEY_FILE',
  'TLS_CA_FILE',
] as const satisfies readonly SettingName[];

/** Names whose values differ. */
export function changedSettings(before: Config, after: Config): SettingName[] {
  return after.names.filter(
    (name) => JSON.stringify(before.settings[name]) !== JSON.stringify(after.settings[name]),
  );
}
