import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grantFor } from '../../src/builds/service/builds/admission.ts';
import { checkSpec } from '../../src/builds/service/builds/check-spec.ts';
import { explainWait } from '../../src/builds/service/builds/explain-wait.ts';
import { registryAllowed } from '../../src/builds/service/builds/registry-allowed.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { newBuildId } from '../../src/core/ids.ts';
import { TIER_QUOTAS } from '../../src/core/quotas.ts';
import type { QueueFacts } from '../../src/store/builds/queue-facts.ts';

const GIB = 1024 ** 3;

test('registryAllowed() matches hosts, ports and suffixes, and nothing that only looks alike', () => {
  for (const [registry, allowed, want] of [
    ['docker.io', ['docker.io'], true],
    ['docker.io', ['ghcr.io'], false],
    ['docker.io', [], false],
    ['anything.example:5000', ['*'], true],
    ['a.example.org', ['*.example.org'], true],
    ['a.b.example.org', ['*.example.org'], true],
    ['example.org', ['*.example.org'], false],
    ['evilexample.org', ['*.example.org'], false],
    ['example.org.evil', ['*.example.org'], false],
    ['ghcr.io', ['GHCR.io'], true],
    ['ghcr.io:443', ['ghcr.io'], true],
    ['ghcr.io:5000', ['ghcr.io'], false],
    ['reg:5000', ['reg:5000'], true],
    ['reg:5001', ['reg:5000'], false],
    ['[::1]:5000', ['[::1]:5000'], true],
    ['[::1]', ['[::1]'], true],
  ] as const) {
    assert.equal(registryAllowed(registry, allowed), want, `${registry} in ${allowed.join(' ')}`);
  }
});

test('checkSpec() reads references as the registry room does', () => {
  for (const [reference, registry] of [
    ['debian', 'docker.io'],
    ['library/debian:12', 'docker.io'],
    ['index.docker.io/library/debian', 'docker.io'],
    ['GHCR.io/a/b', 'ghcr.io'],
    ['localhost:5000/a', 'localhost:5000'],
  ] as const) {
    assert.equal(checkSpec({ source: { image: { reference } } }).registry, registry);
  }
  assert.throws(
    () => checkSpec({ source: { image: { reference: 'user:pass@ghcr.io/a' } } }),
    (reason) => isBuilderdError(reason, 'source.invalid') && !reason.message.includes('pass'),
  );
});

test('checkSpec() refuses what cannot be meant together', () => {
  const source = { image: { reference: 'debian' } };
  for (const rest of [
    { target: { sizeBytes: 1, extraBytes: 1 } },
    { target: { label: 'ääääääääää' } },
    { platform: 'linux/amd64/v1/x' },
    { name: 'half \ud800 character' },
    { labels: { key: 'nul \u0000' } },
    { target: { exclude: ['/etc'] } },
    { target: { preserve: ['a//b'] } },
    { target: { sizeBytes: 2 ** 30 }, limits: { maxDiskBytes: 2 ** 20 } },
    { target: { extraBytes: 2 ** 30 }, limits: { maxDiskBytes: 2 ** 20 } },
  ]) {
    assert.throws(
      () => checkSpec({ source, ...rest }),
      (reason) => isBuilderdError(reason, 'api.invalid'),
    );
  }
});

test('checkSpec() takes a login for the registry of the image, by any of its names, and no other', () => {
  const check = (reference: string, registry: string) =>
    checkSpec({ source: { image: { reference, auth: { token: 't', registry } } } });
  check('debian', 'docker.io');
  check('debian', 'index.docker.io');
  check('ghcr.io/a/b', 'GHCR.io');
  check('localhost:5000/a', 'localhost:5000');
  for (const [reference, registry] of [
    ['debian', 'ghcr.io'],
    ['ghcr.io/a/b', 'ghcr.io:5000'],
    ['localhost:5000/a', 'localhost'],
  ] as const) {
    assert.throws(
      () => check(reference, registry),
      (reason) => isBuilderdError(reason, 'api.invalid'),
      `${registry} for ${reference}`,
    );
  }
});

test('grantFor() gives the shortest of the usual times, and what was asked for if it may be', () => {
  const limits = {
    buildTimeoutMs: 900_000,
    memoryBytes: 2 * GIB,
    diskBytes: GIB,
    allowedRegistries: [],
  };
  const spec = { source: { image: { reference: 'debian' } } };
  const facts = { registry: 'docker.io' };
  const { free, enterprise } = TIER_QUOTAS;
  const grant = (wish: object, quotas: typeof free) =>
    grantFor({ ...spec, ...wish }, facts, quotas, limits);
  assert.deepEqual(grant({}, free), { timeoutMs: 300_000, memoryBytes: GIB / 2, diskBytes: GIB });
  assert.deepEqual(grant({}, enterprise), {
    timeoutMs: 900_000,
    memoryBytes: 2 * GIB,
    diskBytes: GIB,
  });
  assert.deepEqual(grant({ timeoutSeconds: 1800, target: { sizeBytes: 5 * GIB } }, enterprise), {
    timeoutMs: 1_800_000,
    memoryBytes: 2 * GIB,
    diskBytes: 5 * GIB,
  });
  const less = { maxMemoryBytes: GIB / 8, maxDiskBytes: GIB / 4 };
  assert.deepEqual(grant({ limits: less }, enterprise), {
    timeoutMs: 900_000,
    memoryBytes: GIB / 8,
    diskBytes: GIB / 4,
  });
  const more = { maxMemoryBytes: 2 ** 50, maxDiskBytes: 2 ** 50 };
  assert.deepEqual(grant({ limits: more }, free), grant({}, free));
  assert.deepEqual(grantFor(spec, facts, free, { ...limits, allowedRegistries: ['ghcr.io'] }), {
    quotaType: 'network',
    current: 1,
    limit: 0,
    message: 'registry "docker.io" is not on the list of the tenant',
  });
});

test('explainWait() names what has to change first', () => {
  const id = newBuildId();
  const build = { id, notBefore: 0, memoryBytes: 2 * GIB, diskBytes: GIB };
  const tenant = { suspended: false, quotas: TIER_QUOTAS.free };
  const executor = {
    host: 'a',
    draining: false,
    heartbeatAt: 100_000,
    capabilities: {},
    running: 0,
  };
  const facts: QueueFacts = { now: 100_000, running: 0, ahead: new Map(), executors: [executor] };
  const on = (...capabilities: object[]) => ({
    executors: capabilities.map((each) => ({ ...executor, capabilities: each })),
  });
  for (const [change, want] of [
    [{}, 'next'],
    [{ tenant: { ...tenant, suspended: true } }, 'tenant_suspended'],
    [{ build: { ...build, notBefore: 105_000 } }, 'retry_delay'],
    [{ running: 1 }, 'tenant_concurrency'],
    [{ executors: [] }, 'no_executor'],
    [{ executors: [{ ...executor, draining: true }] }, 'no_executor'],
    [{ executors: [{ ...executor, heartbeatAt: 0 }] }, 'no_executor'],
    [on({ runtimeAvailable: false }), 'runtime_unavailable'],
    [{ executors: [{ ...executor, capabilities: { slots: 2 }, running: 2 }] }, 'host_concurrency'],
    [on({ freeMemoryBytes: GIB }), 'host_memory'],
    [on({ freeDiskBytes: 1 }), 'host_disk'],
    [on({ freeDiskBytes: 1 }, { freeDiskBytes: GIB }), 'next'],
    [on({ slots: 'written by something else' }), 'next'],
  ] as const) {
    const given = { build, tenant, ...facts, ...change };
    assert.equal(explainWait(given.build, given.tenant, given).reason, want);
  }
  const behind = explainWait(build, tenant, { ...facts, ahead: new Map([[id, 3]]) });
  assert.equal(behind.ahead, 3);
  assert.match(behind.message, /; 3 before it$/);
});
