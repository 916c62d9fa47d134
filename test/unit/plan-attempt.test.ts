import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planAttempt } from '../../src/builds/executor/plan-attempt.ts';
import { TIER_QUOTAS } from '../../src/core/quotas.ts';

const DEFAULTS = {
  platform: { os: 'linux', architecture: 'amd64' },
  pullPolicy: 'missing',
  allowedRegistries: [],
} as const;
const QUOTAS = TIER_QUOTAS.pro;
const image = (reference: string) => ({ source: { image: { reference } } });

test('planAttempt() fills in what the request leaves out', () => {
  assert.deepEqual(planAttempt(image('debian:12'), QUOTAS, DEFAULTS), {
    reference: 'debian:12',
    registry: 'docker.io',
    platform: DEFAULTS.platform,
    pullPolicy: 'missing',
    formats: ['ext4'],
    ext4: { size: { kind: 'min', extraBytes: 0 }, label: '', journal: false, lostFound: true },
    guestFiles: false,
    devices: 'keep',
    maxMemoryBytes: QUOTAS.maxMemoryBytes,
    maxDiskBytes: QUOTAS.maxDiskBytes,
  });
});

test('planAttempt() takes what leaves files out', () => {
  const target = { exclude: ['**/*.a'], removeCache: true };
  const { filter } = planAttempt({ ...image('a'), target }, QUOTAS, DEFAULTS);
  assert.deepEqual(filter, {
    exclude: ['**/*.a'],
    preserve: [],
    removeDocs: false,
    removeCache: true,
  });
});

test('planAttempt() takes what the guest runs', () => {
  const runtime = { command: ['x'], env: { A: '1' } };
  const plan = planAttempt({ ...image('a'), target: { runtime } }, QUOTAS, DEFAULTS);
  assert.deepEqual(plan.runtime, runtime);
});

test('planAttempt() takes limits below those of the tenant, and never others', () => {
  const limits = { maxMemoryBytes: 256 * 2 ** 20, maxDiskBytes: 2 ** 50 };
  const plan = planAttempt({ ...image('a'), limits }, QUOTAS, DEFAULTS);
  assert.deepEqual([plan.maxMemoryBytes, plan.maxDiskBytes], [256 * 2 ** 20, QUOTAS.maxDiskBytes]);
});

test('planAttempt() takes what the request says', () => {
  const target = {
    formats: ['tar', 'ext4'],
    sizeBytes: 1 << 20,
    label: 'root',
    journal: true,
    lostFound: false,
    guestFiles: true,
    devices: 'drop',
    sourceDateEpoch: 7,
  };
  const spec = { ...image('h:5000/a@sha256:' + 'a'.repeat(64)), target, platform: 'linux/arm64' };
  const plan = planAttempt({ ...spec, pullPolicy: 'always' }, QUOTAS, DEFAULTS);
  assert.equal(plan.registry, 'h:5000');
  assert.deepEqual(plan.ext4, {
    size: { kind: 'fixed', bytes: 1 << 20 },
    label: 'root',
    journal: true,
    lostFound: false,
  });
  assert.equal(plan.platform.architecture, 'arm64');
  assert.deepEqual([plan.pullPolicy, plan.devices, plan.sourceDateEpoch], ['always', 'drop', 7]);
});

const REFUSED: readonly (readonly [string, unknown, string])[] = [
  ['a row that is no request', { source: { image: { reference: 1 } } }, 'internal'],
  ['nothing', undefined, 'internal'],
  ['fields that nobody knows', { ...image('a'), path: '/etc/passwd' }, 'internal'],
  ['a reference that is none', image('../../etc'), 'source.invalid'],
  ['a pattern that is none', { ...image('a'), target: { exclude: ['../x'] } }, 'api.invalid'],
  ['a source of another kind', { source: { git: { url: 'https://h/x' } } }, 'not_supported'],
];
for (const [what, spec, code] of REFUSED) {
  test(`planAttempt() refuses ${what}`, () => {
    assert.throws(() => planAttempt(spec, QUOTAS, DEFAULTS), { code });
  });
}

test('planAttempt() holds the registry to the lists of tenant and operator, as they are now', () => {
  const only = (...allowedRegistries: string[]) => ({ ...QUOTAS, allowedRegistries });
  const operator = (...allowedRegistries: string[]) => ({ ...DEFAULTS, allowedRegistries });
  const denied = { code: 'quota.denied' };
  const spec = image('ghcr.io/a/b');
  assert.throws(() => planAttempt(spec, only('docker.io'), DEFAULTS), denied);
  assert.throws(() => planAttempt(spec, only('*'), operator('docker.io')), denied);
  assert.equal(planAttempt(spec, only('*.io'), operator('ghcr.io')).registry, 'ghcr.io');
});
