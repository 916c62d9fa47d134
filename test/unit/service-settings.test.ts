import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseEnv } from 'node:util';
import fc from 'fast-check';
import { envExample } from '../../contrib/dev/gen-env-example.ts';
import {
  type Environment,
  parseConfig,
  secretsOf,
  serviceEnvironment,
} from '../../src/cli/config.ts';
import { Backoff } from '../../src/cli/serve/backoff.ts';
import { findConflicts, listenHost, metricsAddress } from '../../src/cli/serve/check-settings.ts';
import { changedSettings } from '../../src/cli/serve/reloadable.ts';
import { parseFromRole, parseToRole } from '../../src/cli/serve/role-protocol.ts';
import { parseAccount } from '../../src/cli/serve/service-user.ts';
import { tenantDefaults } from '../../src/cli/serve/tenant-defaults.ts';
import { settingText } from '../../src/cli/setting-text.ts';
import { SETTINGS } from '../../src/cli/settings.ts';
import { databaseConfig } from '../../src/cli/database-config.ts';
import { validateConfig } from '../../src/cli/validate-config.ts';

const env = (settings: Readonly<Record<string, string>>): Environment =>
  Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [`UNKEY_BUILDERD_${name}`, value]),
  );
const config = (settings: Readonly<Record<string, string>> = {}): ReturnType<typeof parseConfig> =>
  parseConfig(env(settings));

/** The production file of the operations guide. */
const GUIDE = `
UNKEY_BUILDERD_HOST=0.0.0.0
UNKEY_BUILDERD_PORT=8082
UNKEY_BUILDERD_LOG_LEVEL=warn
UNKEY_BUILDERD_LOG_FORMAT=json
UNKEY_BUILDERD_SCRATCH_DIR=/var/lib/builderd/scratch
UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR=/var/lib/builderd/rootfs
UNKEY_BUILDERD_WORKSPACE_DIR=/var/lib/builderd/workspace
UNKEY_BUILDERD_CACHE_DIR=/var/lib/builderd/cache
UNKEY_BUILDERD_DATABASE_TYPE=postgres
UNKEY_BUILDERD_DATABASE_URL=postgres://builderd:secure_password@postgres.example.com:5432/builderd?sslmode=require
UNKEY_BUILDERD_ENABLE_ISOLATION=true
UNKEY_BUILDERD_ENABLE_ENCRYPTION=true
UNKEY_BUILDERD_BUILD_USER_ID=1000
UNKEY_BUILDERD_BUILD_GROUP_ID=1000
UNKEY_BUILDERD_OTEL_ENABLED=true
UNKEY_BUILDERD_OTEL_ENDPOINT=https://otel-collector.example.com:4317
UNKEY_BUILDERD_OTEL_INSECURE=false
UNKEY_BUILDERD_DOCKER_PULL_POLICY=always
UNKEY_BUILDERD_DOCKER_TIMEOUT=600s
UNKEY_BUILDERD_MAX_CONCURRENT_BUILDS=20
UNKEY_BUILDERD_BUILD_TIMEOUT=1800s
`;

test("the guide's production file is valid as it is printed", () => {
  const parsed = parseConfig(parseEnv(GUIDE));
  assert.deepEqual(findConflicts(parsed), []);
  assert.equal(parsed.settings.BUILD_TIMEOUT, 1_800_000);
  assert.equal(parsed.settings.DOCKER_TIMEOUT, 600_000);
  assert.equal(parsed.given.size, 21);
});

const CONFLICTS: readonly (readonly [Readonly<Record<string, string>>, RegExp])[] = [
  [{ TLS_MODE: 'file' }, /needs TLS_CERT_FILE and TLS_KEY_FILE/],
  [{ TLS_CERT_FILE: '/a' }, /have no effect without TLS_MODE file/],
  [{ STORAGE_BACKEND: 's3' }, /needs S3_ENDPOINT and S3_BUCKET/],
  [{ STORAGE_BACKEND: 'gcs' }, /gcs is not built/],
  [{ S3_BUCKET: 'b' }, /S3_BUCKET has no effect/],
  [{ DATABASE_URL: 'postgres://h/d' }, /no effect with DATABASE_TYPE sqlite/],
  [{ ASSETMANAGER_ENABLED: 'true' }, /ASSETMANAGER_ENABLED is not built/],
  [{ AUTH_MODE: 'development', HOST: '::' }, /HOST must be a loopback address/],
  [{ AUTH_MODE: 'development', ADDRESS: '0.0.0.0' }, /HOST must be a loopback address/],
  [{ ENABLE_ISOLATION: 'false' }, /ENABLE_ISOLATION false .* needs AUTH_MODE development/],
  [{ TENANT_ISOLATION_ENABLED: 'false' }, /needs AUTH_MODE development/],
  [{ WORKER_ID_BASE: '16777217' }, /want a multiple of 16777216/],
  [{ MAX_CONCURRENT_BUILDS: '257' }, /want 256 at most/],
  [{ METRICS_PORT: '8082' }, /METRICS_PORT and PORT are the same/],
  [{ MASTER_KEY: 'a', MASTER_KEY_FILE: '/b' }, /want one of them at most/],
  [{ DOCKER_REGISTRY_MIRROR: 'm' }, /write a hosts.toml/],
  [{ FAILPOINTS: 'a=off' }, /they need TEST_MODE true/],
];
for (const [settings, want] of CONFLICTS) {
  test(`findConflicts() names what is wrong with ${JSON.stringify(settings)}`, () => {
    const found = findConflicts(config(settings));
    assert.equal(found.length, 1, found.join());
    assert.match(found[0] ?? '', want);
  });
}

test('findConflicts() finds nothing in the defaults, nor in loopback development', () => {
  assert.deepEqual(findConflicts(config()), []);
  const development = { AUTH_MODE: 'development', HOST: '127.0.0.9' };
  assert.deepEqual(findConflicts(config(development)), []);
  assert.deepEqual(findConflicts(config({ ...development, ENABLE_ISOLATION: 'false' })), []);
});

test('older names count until the newer one is given', () => {
  const older = config({
    ADDRESS: '10.0.0.1',
    OTEL_PROMETHEUS_PORT: '9466',
    OTEL_PROMETHEUS_INTERFACE: '10.0.0.2',
  });
  assert.equal(listenHost(older.settings, older.given), '10.0.0.1');
  assert.deepEqual(metricsAddress(older.settings, older.given), { host: '10.0.0.2', port: 9466 });
  const both = config({
    ADDRESS: '10.0.0.1',
    HOST: '127.0.0.1',
    OTEL_PROMETHEUS_PORT: '9466',
    METRICS_PORT: '9091',
  });
  assert.equal(listenHost(both.settings, both.given), '127.0.0.1');
  assert.equal(metricsAddress(both.settings, both.given).port, 9091);
});

const SIZES: readonly (readonly [string, number | undefined])[] = [
  ['2147483648', 2 ** 31],
  ['2G', 2 ** 31],
  ['2GiB', 2 ** 31],
  ['2GB', 2_000_000_000],
  ['0', undefined],
  ['-1', undefined],
  ['10GBB', undefined],
  ['1e3', undefined],
  ['9999999T', undefined],
];
for (const [text, want] of SIZES) {
  test(`BUILD_MEMORY ${JSON.stringify(text)} is ${want ?? 'refused'}`, () => {
    if (want === undefined)
      assert.throws(() => config({ BUILD_MEMORY: text }), { code: 'config.invalid' });
    else assert.equal(config({ BUILD_MEMORY: text }).settings.BUILD_MEMORY, want);
  });
}

test('a value shown by settingText() is read as the same value', () => {
  const { settings, names } = config();
  for (const name of names) {
    const text = settingText(name, settings[name]);
    if (text !== '')
      assert.deepEqual(config({ [name]: text }).settings[name], settings[name], name);
  }
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 ** 9 }), (ms) => {
      assert.equal(SETTINGS.BUILD_TIMEOUT.parse(settingText('BUILD_TIMEOUT', ms)), ms);
    }),
  );
});

test('builderd.env.example is what the table of settings says, and changes nothing', () => {
  const file = path.resolve(import.meta.dirname, '../../contrib/systemd/builderd.env.example');
  assert.equal(
    readFileSync(file, 'utf8'),
    envExample(),
    'run: node contrib/dev/gen-env-example.ts',
  );
  assert.deepEqual(Object.keys(parseEnv(envExample())), []);
  const enabled = envExample().replace(/^#(UNKEY_BUILDERD_)/gm, '$1');
  const { settings, names } = parseConfig(parseEnv(enabled));
  assert.deepEqual(settings, config().settings);
  for (const name of names) {
    if (name !== 'TEST_MODE' && name !== 'FAILPOINTS')
      assert.match(enabled, new RegExp(`^UNKEY_BUILDERD_${name}=`, 'm'));
  }
});

async function shown(
  text: string,
  environment: Environment,
): Promise<Map<string, [string, string]>> {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-config-'));
  const file = path.join(dir.path, 'env');
  await writeFile(file, text);
  let stdout = '';
  const before = { ...process.env };
  Object.assign(process.env, environment);
  try {
    validateConfig(file, {
      stdout: { write: (part) => (stdout += part) },
      stderr: { write: () => undefined },
      signal: AbortSignal.timeout(60_000),
      atExit: () => undefined,
    });
  } finally {
    for (const name of Object.keys(environment)) {
      if (before[name] === undefined) delete process.env[name];
    }
  }
  const lines = stdout.split('\n').filter((line) => line.startsWith('UNKEY_'));
  return new Map(
    lines.map((line) => {
      const [name = '', source = '', ...value] = line.split(/ +/);
      return [name.replace('UNKEY_BUILDERD_', ''), [source, value.join(' ')]];
    }),
  );
}

test('--validate-config tells each value and where it comes from, and no secret', async () => {
  const rows = await shown(
    `${GUIDE}UNKEY_BUILDERD_BUILD_MEMORY=1G\nUNKEY_BUILDERD_METRICS_HOST=10.0.0.1\n`,
    env({ METRICS_HOST: '127.0.0.1' }),
  );
  assert.deepEqual(rows.get('LOG_LEVEL'), ['file', 'warn']);
  assert.deepEqual(rows.get('METRICS_HOST'), ['environment', '127.0.0.1']);
  assert.deepEqual(rows.get('RATE_LIMIT'), ['default', '100']);
  assert.deepEqual(rows.get('BUILD_TIMEOUT'), ['file', '30m']);
  assert.deepEqual(rows.get('BUILD_MEMORY'), ['file', '1073741824 (1.0 GiB)']);
  assert.deepEqual(rows.get('DATABASE_URL'), ['file', '***']);
  assert.deepEqual(rows.get('DATABASE_PASSWORD'), ['default', '']);
  assert.equal(rows.size, Object.keys(SETTINGS).length);
  await assert.rejects(
    shown('UNKEY_BUILDERD_TLS_MODE=spiffe\nUNKEY_BUILDERD_ASSETMANAGER_ENABLED=true\n', {}),
    (reason: Error) => {
      // Both at once: nobody wants to start three times.
      assert.match(reason.message, /spiffe is not built.*ASSETMANAGER_ENABLED is not built/);
      return true;
    },
  );
});

test('secretsOf() gives every secret, and the password of a URL alone', () => {
  const secrets = secretsOf(
    parseConfig({
      ...env({
        DATABASE_TYPE: 'postgres',
        DATABASE_URL: 'postgres://u:p%40ss-word@h/d',
        S3_SECRET_ACCESS_KEY: 'key-1',
      }),
      OTEL_EXPORTER_OTLP_HEADERS: 'x-api-key=key-2,b=key-3',
    }),
  );
  assert.deepEqual(secrets.toSorted(), [
    'key-1',
    'key-2',
    'key-3',
    'p%40ss-word',
    'p@ss-word',
    'postgres://u:p%40ss-word@h/d',
  ]);
});

test('serviceEnvironment() passes on what is ours and nothing else', () => {
  const values = {
    ...env({ PORT: '1' }),
    PATH: '/bin',
    AWS_SECRET_ACCESS_KEY: 'x',
    LD_PRELOAD: 'y',
    NODE_OPTIONS: 'z',
    OTEL_SERVICE_NAME: 'n',
  };
  assert.deepEqual(serviceEnvironment({ values }), {
    UNKEY_BUILDERD_PORT: '1',
    PATH: '/bin',
    OTEL_SERVICE_NAME: 'n',
  });
});

test('databaseConfig() makes a URL of the older single settings', () => {
  assert.deepEqual(databaseConfig(config()), {
    type: 'sqlite',
    directory: '/var/lib/builderd/data',
  });
  const older = config({
    DATABASE_TYPE: 'postgres',
    DATABASE_HOST: 'db',
    DATABASE_USERNAME: 'a@b',
    DATABASE_PASSWORD: 'c:d/e',
    DATABASE_NAME: 'n',
    DATABASE_SSL_MODE: 'verify-full',
  });
  const found = databaseConfig(older);
  assert.equal(
    found.type === 'postgres' && found.url,
    'postgres://a%40b:c%3Ad%2Fe@db:5432/n?sslmode=verify-full',
  );
});

test('tenantDefaults() holds what the operator gives, and only that', () => {
  assert.deepEqual(tenantDefaults(config()), {});
  assert.deepEqual(
    tenantDefaults(
      config({ TENANT_DEFAULT_MAX_MEMORY_BYTES: '4G', TENANT_DEFAULT_MAX_DAILY_BUILDS: '7' }),
    ),
    {
      maxMemoryBytes: 4 * 1024 ** 3,
      maxDailyBuilds: 7,
    },
  );
});

test('changedSettings() compares values, not spellings', () => {
  assert.deepEqual(
    changedSettings(config({ BUILD_TIMEOUT: '60s' }), config({ BUILD_TIMEOUT: '1m' })),
    [],
  );
  assert.deepEqual(
    changedSettings(config({ BUILD_TIMEOUT: '60s' }), config({ DOCKER_ALLOWED_REGISTRIES: 'a,b' })),
    ['BUILD_TIMEOUT', 'DOCKER_ALLOWED_REGISTRIES'],
  );
});

test('Backoff doubles to ten seconds, and starts over after a minute of running', () => {
  const backoff = new Backoff(() => 0);
  const delays = Array.from({ length: 9 }, () => backoff.next({ ranMs: 10 }));
  assert.deepEqual(delays, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
  assert.equal(backoff.next({ ranMs: 60_000 }), 250);
});

test('messages between supervisor and role are taken word by word', () => {
  assert.deepEqual(parseFromRole('{"kind":"ready","more":1}'), { kind: 'ready' });
  assert.deepEqual(parseFromRole('{"kind":"reloaded","applied":["A"],"pending":[]}'), {
    kind: 'reloaded',
    applied: ['A'],
    pending: [],
  });
  const start = {
    kind: 'start',
    environment: { A: 'b' },
    files: {},
    restarts: 0,
    alone: false,
    identity: { uid: 1, gid: 2, name: 'n' },
  };
  assert.deepEqual(parseToRole(JSON.stringify(start)), start);
  for (const line of [
    '',
    'x',
    '[]',
    'null',
    '{}',
    '{"kind":"stop"}',
    '{"kind":"fault","message":1,"retryable":true,"exit":1}',
    '{"kind":"reloaded","applied":[1],"pending":[]}',
  ]) {
    assert.throws(() => parseFromRole(line), line);
    assert.throws(() => parseToRole(line), line);
  }
});

test('parseAccount() finds exactly the named account', () => {
  const passwd =
    'root:x:0:0:root:/root:/bin/sh\nbuilderd:x:998:997::/var/lib/builderd:/bin/false\nbad:x:a:b::/:\n';
  assert.deepEqual(parseAccount(passwd, 'builderd'), { uid: 998, gid: 997, name: 'builderd' });
  for (const name of ['build', 'x', '', 'bad', 'builderd:x'])
    assert.equal(parseAccount(passwd, name), undefined);
});
