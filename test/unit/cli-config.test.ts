import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig, loadConfig } from '../../src/cli/config.ts';
import { SETTINGS } from '../../src/cli/settings.ts';

const invalid = (message: RegExp): { code: string; message: RegExp } => ({
  code: 'config.invalid',
  message,
});

test('parseConfig() gives the defaults that the design names', () => {
  const { settings, given } = parseConfig({});
  assert.equal(given.size, 0);
  assert.equal(settings.HOST, '127.0.0.1');
  assert.equal(settings.PORT, 8082);
  assert.equal(settings.LOG_LEVEL, 'info');
  assert.equal(settings.LOG_FORMAT, 'json');
  assert.equal(settings.MAX_CONCURRENT_BUILDS, 5);
  assert.equal(settings.BUILD_TIMEOUT, 15 * 60_000);
  assert.equal(settings.DOCKER_PULL_POLICY, 'missing');
  assert.equal(settings.TLS_MODE, 'disabled');
  assert.equal(settings.ENABLE_ISOLATION, true);
  assert.equal(settings.ENABLE_ENCRYPTION, false);
  assert.equal(settings.DATABASE_TYPE, 'sqlite');
  assert.equal(settings.CONTAINERD_ADDRESS, '/run/containerd/containerd.sock');
  assert.equal(settings.CONTAINERD_NAMESPACE, 'builderd');
});

test('parseConfig() takes the environment that the operations guide prints', () => {
  const { settings, given } = parseConfig({
    UNKEY_BUILDERD_HOST: '0.0.0.0',
    UNKEY_BUILDERD_PORT: '8082',
    UNKEY_BUILDERD_LOG_LEVEL: 'warn',
    UNKEY_BUILDERD_LOG_FORMAT: 'json',
    UNKEY_BUILDERD_SCRATCH_DIR: '/var/lib/builderd/scratch',
    UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: '/var/lib/builderd/rootfs',
    UNKEY_BUILDERD_WORKSPACE_DIR: '/var/lib/builderd/workspace',
    UNKEY_BUILDERD_CACHE_DIR: '/var/lib/builderd/cache',
    UNKEY_BUILDERD_DATABASE_TYPE: 'postgres',
    UNKEY_BUILDERD_DATABASE_URL: 'postgres://builderd:pw@host:5432/builderd?sslmode=require',
    UNKEY_BUILDERD_ENABLE_ISOLATION: 'true',
    UNKEY_BUILDERD_ENABLE_ENCRYPTION: 'true',
    UNKEY_BUILDERD_BUILD_USER_ID: '1000',
    UNKEY_BUILDERD_BUILD_GROUP_ID: '1000',
    UNKEY_BUILDERD_OTEL_ENABLED: 'true',
    UNKEY_BUILDERD_OTEL_ENDPOINT: 'https://otel-collector.example.com:4317',
    UNKEY_BUILDERD_OTEL_INSECURE: 'false',
    UNKEY_BUILDERD_DOCKER_PULL_POLICY: 'always',
    UNKEY_BUILDERD_DOCKER_TIMEOUT: '600s',
    UNKEY_BUILDERD_MAX_CONCURRENT_BUILDS: '20',
    UNKEY_BUILDERD_BUILD_TIMEOUT: '1800s',
    PATH: '/bin',
    OTHER: 'ignored',
  });
  assert.equal(given.size, 21);
  assert.equal(settings.DOCKER_TIMEOUT, 600_000);
  assert.equal(settings.BUILD_TIMEOUT, 1_800_000);
  assert.equal(settings.OTEL_INSECURE, false);
});

test('parseConfig() takes an empty value as unset', () => {
  const { settings, given } = parseConfig({ UNKEY_BUILDERD_PORT: '' });
  assert.equal(settings.PORT, 8082);
  assert.equal(given.has('PORT'), false);
});

const BAD: readonly (readonly [string, string, RegExp])[] = [
  ['PORT', '65536', /"65536" for UNKEY_BUILDERD_PORT: want 0 … 65535/],
  ['PORT', '0x50', /PORT/],
  ['PORT', '8082 ', /PORT/],
  ['MAX_CONCURRENT_BUILDS', '0', /want a whole number of at least 1/],
  ['MAX_CONCURRENT_BUILDS', '-1', /at least 1/],
  ['BUILD_TIMEOUT', '15', /want a duration such as 600s, 15m or 1h30m/],
  ['BUILD_TIMEOUT', '0s', /duration/],
  ['ENABLE_ISOLATION', 'yes', /want true or false/],
  ['DOCKER_PULL_POLICY', 'sometimes', /want always, missing, never/],
  ['SCRATCH_DIR', 'scratch', /want an absolute path/],
  ['OTEL_SAMPLING_RATE', '1.5', /from 0 to 1/],
  ['EGRESS_ALLOW', 'a,,b', /separated by commas/],
];
for (const [name, value, message] of BAD) {
  test(`parseConfig() refuses ${name}=${value} and says what is allowed`, () => {
    assert.throws(() => parseConfig({ [`UNKEY_BUILDERD_${name}`]: value }), invalid(message));
  });
}

test('parseConfig() refuses an unknown name, empty or not, and suggests the near one', () => {
  for (const value of ['1', '']) {
    assert.throws(
      () => parseConfig({ UNKEY_BUILDERD_MAX_CONCURENT_BUILDS: value }),
      invalid(/no such setting; did you mean UNKEY_BUILDERD_MAX_CONCURRENT_BUILDS\?/),
    );
  }
  assert.throws(() => parseConfig({ UNKEY_BUILDERD___proto__: '1' }), invalid(/no such setting$/));
  assert.throws(() => parseConfig({ UNKEY_BUILDERD_constructor: '1' }), invalid(/no such setting/));
});

test('parseConfig() never repeats a secret', () => {
  const secrets = Object.entries(SETTINGS).filter(([, setting]) => 'secret' in setting);
  assert.deepEqual(
    secrets.map(([name]) => name),
    ['DATABASE_URL', 'DATABASE_PASSWORD', 'MASTER_KEY', 'S3_SECRET_ACCESS_KEY'],
  );
});

test('parseConfig() reads durations as Go writes them', () => {
  const read = (value: string): number =>
    parseConfig({ UNKEY_BUILDERD_BUILD_TIMEOUT: value }).settings.BUILD_TIMEOUT;
  assert.equal(read('250ms'), 250);
  assert.equal(read('1.5h'), 5_400_000);
  assert.equal(read('1h30m10s'), 5_410_000);
});

test('loadConfig() reads an environment file below the environment of the process', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'builderd-config-'));
  try {
    const file = join(dir, 'builderd.env');
    await writeFile(file, '# comment\nUNKEY_BUILDERD_PORT=9000\nUNKEY_BUILDERD_HOST="0.0.0.0"\n');
    const { settings } = loadConfig(file);
    assert.equal(settings.PORT, 9000);
    assert.equal(settings.HOST, '0.0.0.0');
    await writeFile(file, 'UNKEY_BUILDERD_PROT=9000\n');
    assert.throws(() => loadConfig(file), invalid(/did you mean UNKEY_BUILDERD_PORT/));
    assert.throws(() => loadConfig(join(dir, 'none')), invalid(/Cannot read the environment file/));
  } finally {
    await rm(dir, { recursive: true });
  }
});
