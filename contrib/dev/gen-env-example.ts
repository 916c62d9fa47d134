import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { settingText } from '../../src/cli/setting-text.ts';
import { SETTINGS, type SettingName } from '../../src/cli/settings.ts';

const FILE = path.resolve(import.meta.dirname, '../systemd/builderd.env.example');
const WIDTH = 100;

/** Headings of the operations guide, and which names stand below each. The first that fits wins. */
const SECTIONS: readonly (readonly [string, RegExp])[] = [
  [
    'Server',
    /^(?:HOST|PORT|ADDRESS|LOG_|SHUTDOWN_|RATE_LIMIT|SERVICE_USER|RUN_DIR|ALLOWED_HOSTS|TRUSTED_PROXIES)/,
  ],
  [
    'Directories and artifacts',
    /^(?:SCRATCH_DIR|ROOTFS_OUTPUT_DIR|WORKSPACE_DIR|CACHE_DIR|STORAGE_|S3_|CLEANUP_)/,
  ],
  ['Database', /^DATABASE_/],
  ['Identity of callers', /^(?:AUTH_MODE|OPERATOR_TOKEN|JWT_)/],
  ['TLS', /^(?:TLS_|SPIFFE_)/],
  ['Keys and encryption', /^(?:MASTER_KEY|ENABLE_ENCRYPTION)/],
  [
    'Isolation and build steps',
    /^(?:ENABLE_ISOLATION|TENANT_ISOLATION|WORKER_|BUILD_USER_ID|BUILD_GROUP_ID|CGROUP_)/,
  ],
  ['Images and registries', /^(?:DOCKER_|CONTAINERD_|TRUSTED_REALMS|EGRESS_)/],
  ['Builds at once, and their limits', /^(?:MAX_CONCURRENT|BUILD_|LEASE_)/],
  ['New tenants', /^TENANT_/],
  ['Metrics and telemetry', /^(?:METRICS_|OTEL_)/],
  ['The rest', /./],
];

/** Every setting with its meaning and its default, commented out: the file as it is changes nothing. */
export function envExample(): string {
  const names = Object.keys(SETTINGS).filter((name): name is SettingName => name in SETTINGS);
  const shown = names.filter((name) => name !== 'TEST_MODE' && name !== 'FAILPOINTS');
  const sections = SECTIONS.map(([title, fits], index) => {
    const earlier = SECTIONS.slice(0, index).map(([, each]) => each);
    const members = shown.filter(
      (name) => fits.test(name) && !earlier.some((each) => each.test(name)),
    );
    const lines = members.map((name) => {
      const { about, wanted } = SETTINGS[name];
      const want = wanted === 'a text' ? '' : `Want ${wanted}.`;
      const comment = `# ${about} ${want}`.trimEnd();
      const text = comment.length <= WIDTH ? comment : `# ${about}\n# ${want}`;
      return `${text}\n#UNKEY_BUILDERD_${name}=${settingText(name, SETTINGS[name].fallback)}`;
    });
    return lines.length === 0 ? '' : `\n# --- ${title} ---\n\n${lines.join('\n\n')}\n`;
  });
  return `${HEADER}${sections.join('')}`;
}

const HEADER = `# /etc/builderd/builderd.env: settings of builderd, read by \`builderd … --config FILE\`.
# Made from the table of settings by contrib/dev/gen-env-example.ts.
# Keep it root:root, mode 0640 or stricter: whoever writes it decides what runs as root.
# A misspelt name or a bad value stops the start; \`builderd --validate-config --config FILE\` tells.
# Durations: 600s, 15m, 1h30m. Sizes: 512M, 2GiB, or bytes. Lists: items separated by commas.
# SIGHUP (\`systemctl reload builderd\`) takes over what can change while it runs, and names the rest.
`;

if (import.meta.main) writeFileSync(FILE, envExample());
