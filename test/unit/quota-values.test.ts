import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TIER_QUOTAS, TIERS } from '../../src/core/quotas.ts';
import { effectiveQuotas } from '../../src/store/tenants/effective-quotas.ts';
import { applyQuotaChange, parseQuotaChange } from '../../src/store/tenants/parse-quota-change.ts';
import { QUOTA_NAMES } from '../../src/store/tenants/quota-values.ts';

const GIB = 1024 ** 3;

const ACCEPTED: readonly (readonly [string, unknown, unknown])[] = [
  ['maxMemoryBytes', '16G', 16 * GIB],
  ['maxMemoryBytes', '16GiB', 16 * GIB],
  ['maxMemoryBytes', '16GB', 16e9],
  ['maxMemoryBytes', 16 * GIB, 16 * GIB],
  ['maxConcurrentBuilds', 7, 7],
  ['encryption', true, true],
  ['allowedRegistries', ['*.example.com', 'ghcr.io', 'localhost:5000'], undefined],
];

test('parseQuotaChange() reads exact values and gives sizes in bytes', () => {
  for (const [name, value, wanted] of ACCEPTED) {
    assert.deepEqual(parseQuotaChange({ [name]: value }), { [name]: wanted ?? value });
  }
});

const REFUSED: readonly (readonly [string, unknown])[] = [
  ['maxConcurrentBuilds', -1],
  ['maxConcurrentBuilds', 0],
  ['maxConcurrentBuilds', 1.5],
  ['maxConcurrentBuilds', '7'],
  ['maxConcurrentBuilds', 1e300],
  ['maxMemoryBytes', '10GBB'],
  ['maxMemoryBytes', '1e3'],
  ['maxMemoryBytes', '10,000%'],
  ['maxMemoryBytes', '-5G'],
  ['maxMemoryBytes', '0'],
  ['maxMemoryBytes', '9999999T'],
  ['maxMemoryBytes', 'max'],
  ['encryption', 1],
  ['encryption', 'true'],
  ['allowedRegistries', 'docker.io'],
  ['allowedRegistries', ['https://docker.io']],
  ['allowedRegistries', ['DOCKER.io']],
  ['allowedRegistries', [7]],
  ['allowedRegistries', Array.from({ length: 201 }, () => 'a.b')],
  ['tier', 'dedicated'],
  ['__proto__', 1],
  ['maxconcurrentbuilds', 1],
];

test('H17: parseQuotaChange() refuses what is not exactly a value of that quota', () => {
  for (const [name, value] of REFUSED) {
    const raw: unknown = JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(value)}}`);
    assert.throws(() => parseQuotaChange(raw), { code: 'api.invalid' }, `${name} ${String(value)}`);
  }
  for (const raw of [null, [], 'x', 7, { weight: Number.NaN }]) {
    assert.throws(() => parseQuotaChange(raw), { code: 'api.invalid' });
  }
});

test('null takes an override away', () => {
  const change = parseQuotaChange({ maxDailyBuilds: null, weight: 7 });
  assert.deepEqual(applyQuotaChange({ maxDailyBuilds: 9, retentionDays: 3 }, change), {
    retentionDays: 3,
    weight: 7,
  });
});

test('effectiveQuotas() lays overrides over defaults over the tier', () => {
  const quotas = effectiveQuotas(
    { tier: 'pro', overrides: '{"weight":7,"ofAnotherVersion":1}' },
    { weight: 3, maxDailyBuilds: 11 },
  );
  assert.deepEqual(quotas, { ...TIER_QUOTAS.pro, weight: 7, maxDailyBuilds: 11 });
});

test('effectiveQuotas() stops at a row that builderd cannot have written', () => {
  const rows: readonly { tier: string; overrides: string }[] = [
    { tier: 'gold', overrides: '{}' },
    { tier: 'free', overrides: '[]' },
    { tier: 'free', overrides: 'x' },
    { tier: 'free', overrides: '{"maxConcurrentBuilds":-1}' },
  ];
  for (const row of rows) assert.throws(() => effectiveQuotas(row), { code: 'internal' });
});

test('every tier holds to the rules for its own values, and every quota has a rule', () => {
  for (const tier of TIERS) {
    assert.deepEqual(parseQuotaChange(TIER_QUOTAS[tier]), TIER_QUOTAS[tier]);
    assert.deepEqual([...QUOTA_NAMES].sort(), Object.keys(TIER_QUOTAS[tier]).sort());
  }
});
