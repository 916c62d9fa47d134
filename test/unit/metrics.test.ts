import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ExpositionMerger,
  familiesOf,
  parseFamilies,
} from '../../src/builds/metrics/merge-expositions.ts';
import { Metrics } from '../../src/builds/metrics/metrics.ts';
import { commonParent, readFileSystems } from '../../src/builds/metrics/file-systems.ts';
import { parseStat, readProcessTree } from '../../src/builds/metrics/process-tree.ts';
import { seriesOf } from '../fixtures/prometheus.ts';

function makeMetrics(role: 'api' | 'executor' = 'executor', maxTenants = 100): Metrics {
  return new Metrics({
    role,
    version: '1.2.3',
    registries: ['registry.example.com', '*'],
    directories: [import.meta.dirname],
    maxTenants,
    onFault: (collector, reason) => assert.fail(`${collector}: ${String(reason)}`),
  });
}

const shown = async (metrics: Metrics): Promise<Map<string, number>> =>
  seriesOf(await metrics.registry.metrics());

/** Name, labels: the operations guide's, to the letter. */
const GUIDE: readonly (readonly [string, readonly string[]])[] = [
  ['builderd_builds_total', ['status']],
  ['builderd_builds_duration_seconds', []],
  ['builderd_builds_queue_size', []],
  ['builderd_memory_usage_bytes', []],
  ['builderd_cpu_usage_percent', []],
  ['builderd_disk_usage_bytes', []],
  ['builderd_tenant_builds_active', ['tenant_id']],
  ['builderd_tenant_quota_usage', ['tenant_id', 'quota_type']],
  ['builderd_docker_pulls_total', ['registry']],
  ['builderd_docker_pull_duration_seconds', []],
  ['builderd_quota_violations_total', ['tenant_id', 'quota_type']],
  ['disk_free_bytes', ['mountpoint']],
  ['disk_total_bytes', ['mountpoint']],
];

test('Metrics has the families of the operations guide with its labels and no others', async () => {
  const metrics = makeMetrics();
  metrics.setActiveBuilds(new Map([['acme', 1]]));
  metrics.setTenants([{ tenant: 'acme', usage: { storage: 5 }, limits: { storage: 9 } }]);
  await metrics.collect();
  const families = new Map(
    (await familiesOf(metrics.registry)).map((family) => [family.name, family]),
  );
  for (const [name, labels] of GUIDE) {
    const samples = families.get(name)?.values ?? [];
    assert.ok(samples.length > 0, name);
    for (const { labels: found } of samples) {
      assert.deepEqual(
        Object.keys(found).filter((label) => label !== 'le'),
        labels,
        name,
      );
    }
  }
});

test('Metrics starts rates at 0: outcomes, registries, quotas of known tenants', async () => {
  const metrics = makeMetrics();
  metrics.setTenants([{ tenant: 'acme', usage: {}, limits: {} }]);
  const series = await shown(metrics);
  for (const status of ['completed', 'failed', 'cancelled']) {
    assert.equal(series.get(`builderd_builds_total{status="${status}"}`), 0);
  }
  assert.equal(series.get('builderd_docker_pulls_total{registry="docker.io"}'), 0);
  assert.equal(series.get('builderd_docker_pulls_total{registry="registry.example.com"}'), 0);
  assert.equal(series.get('builderd_docker_pulls_total{registry="*"}'), undefined);
  assert.equal(
    series.get('builderd_quota_violations_total{tenant_id="acme",quota_type="storage"}'),
    0,
  );
});

test('a violation of an unknown tenant is shown as 0 once, then as it is', async () => {
  const metrics = makeMetrics();
  const name = 'builderd_quota_violations_total{tenant_id="new",quota_type="daily_builds"}';
  metrics.violation({ tenant: 'new', quotaType: 'daily_builds' });
  metrics.violation({ tenant: 'new', quotaType: 'daily_builds' });
  assert.deepEqual([(await shown(metrics)).get(name), (await shown(metrics)).get(name)], [0, 2]);
});

test('G28: labels stay few, whatever tenants and images are named', async () => {
  const metrics = makeMetrics('executor', 3);
  const tenants = Array.from({ length: 500 }, (_, index) => `t${index}`);
  metrics.setActiveBuilds(new Map(tenants.map((tenant) => [tenant, 1])));
  for (const tenant of tenants) {
    metrics.violation({ tenant, quotaType: 'storage' });
    metrics.pullFinished({ registry: `${tenant}.example`, durationMs: 10, bytes: 1 });
    metrics.request({ method: 'GET', route: `/${tenant}`, status: 200, durationMs: 1 });
  }
  const series = await shown(metrics);
  const count = (prefix: string): number =>
    [...series.keys()].filter((name) => name.startsWith(prefix)).length;
  assert.equal(count('builderd_tenant_builds_active{'), 4);
  assert.equal(series.get('builderd_tenant_builds_active{tenant_id="other"}'), 497);
  assert.equal(count('builderd_quota_violations_total{'), 4);
  assert.equal(series.get('builderd_docker_pulls_total{registry="other"}'), 500);
  assert.equal(count('builderd_http_requests_total{'), 201);
});

test('a collector that fails is counted and stops nobody else', async () => {
  const faults: string[] = [];
  const metrics = new Metrics({
    role: 'api',
    version: '1',
    registries: [],
    directories: [],
    maxTenants: 1,
    onFault: (collector) => faults.push(collector),
  });
  metrics.addCollector('broken', async () => Promise.reject(new Error('no')));
  metrics.addCollector('queue', async () => metrics.setQueue({ size: 3, oldestMs: 1000 }));
  await metrics.collect();
  const series = await shown(metrics);
  assert.deepEqual(faults, ['broken']);
  assert.equal(series.get('builderd_scrape_faults_total{collector="broken"}'), 1);
  assert.equal(series.get('builderd_scrape_faults_total{collector="queue"}'), 0);
  assert.equal(series.get('builderd_builds_queue_size'), 3);
});

test('ExpositionMerger adds counters, takes gauges as they declare, and keeps what an ended role counted', async () => {
  const api = makeMetrics('api');
  const first = makeMetrics();
  const merger = new ExpositionMerger();
  const render = async (otherAnswers = true): Promise<Map<string, number>> =>
    seriesOf(await merger.render(await familiesOf(api.registry), { otherAnswers }));

  api.buildFinished({ status: 'cancelled' });
  first.buildFinished({ status: 'completed', durationMs: 700 });
  first.buildFinished({ status: 'cancelled', durationMs: 5000 });
  first.setActiveBuilds(new Map([['acme', 2]]));
  first.setContainerdUp(true);
  api.setQueue({ size: 7, oldestMs: 0 });
  await merger.update('one', await familiesOf(first.registry));
  let series = await render();
  assert.equal(series.get('builderd_builds_total{status="cancelled"}'), 2);
  assert.equal(series.get('builderd_builds_total{status="completed"}'), 1);
  assert.equal(series.get('builderd_builds_duration_seconds_bucket{le="1"}'), 1);
  assert.equal(series.get('builderd_builds_duration_seconds_count'), 2);
  assert.equal(series.get('builderd_builds_queue_size'), 7);
  assert.equal(series.get('builderd_tenant_builds_active{tenant_id="acme"}'), 2);
  assert.equal(series.get('builderd_containerd_up'), 1);

  // The executor is away: its counters stay, its gauges are not believed any more.
  series = await render(false);
  assert.equal(series.get('builderd_builds_total{status="completed"}'), 1);
  assert.equal(series.get('builderd_tenant_builds_active{tenant_id="acme"}'), undefined);
  assert.equal(series.get('builderd_containerd_up'), 0);

  const second = makeMetrics();
  second.buildFinished({ status: 'completed', durationMs: 100 });
  await merger.update('two', await familiesOf(second.registry));
  series = await render();
  assert.equal(series.get('builderd_builds_total{status="completed"}'), 2);
  assert.equal(series.get('builderd_builds_duration_seconds_count'), 3);
  assert.equal(series.get('builderd_tenant_builds_active{tenant_id="acme"}'), undefined);
});

test('parseFamilies() refuses what is no exposition', () => {
  const family = {
    name: 'a',
    help: 'b',
    type: 'counter',
    aggregator: 'sum',
    values: [{ value: 1, labels: {} }],
  };
  assert.equal(parseFamilies(JSON.stringify([family])).length, 1);
  const bad: readonly unknown[] = [
    {},
    [null],
    [{ ...family, name: 'a b' }],
    [{ ...family, name: 'a\n# HELP' }],
    [{ ...family, type: 'untyped' }],
    [{ ...family, aggregator: 'constructor' }],
    [{ ...family, values: {} }],
    [{ ...family, values: [{ value: '1', labels: {} }] }],
    [{ ...family, values: [{ value: 1, labels: { 'a}': 'x' } }] }],
    [{ ...family, values: [{ value: 1, labels: { a: {} } }] }],
    [{ ...family, values: [{ value: 1, labels: {}, metricName: 'x y' }] }],
    Array.from({ length: 501 }, () => family),
  ];
  for (const value of bad)
    assert.throws(() => parseFamilies(JSON.stringify(value)), { code: 'internal' });
});

test('parseStat() reads past a process name that is made to confuse', () => {
  const rest = 'S 1 2 3 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 555 1000 77 184467';
  for (const name of ['node', 'a b', '1) R 9 (', ') ) )', '']) {
    assert.deepEqual(parseStat(`42 (${name}) ${rest}`), { ticks: 110, residentPages: 77 });
  }
  fc.assert(
    fc.property(fc.string(), (text) => {
      const { ticks, residentPages } = parseStat(text);
      assert.ok(ticks >= 0 && residentPages >= 0);
    }),
  );
});

test('readProcessTree() sees this process', () => {
  const { residentBytes, cpuSeconds } = readProcessTree();
  assert.ok(residentBytes > 20 * 1024 ** 2);
  assert.ok(cpuSeconds > 0);
});

const PARENTS: readonly (readonly [readonly string[], string | undefined])[] = [
  [[], undefined],
  [['/var/lib/builderd/data', '/var/lib/builderd/rootfs'], '/var/lib/builderd'],
  [['/var/lib/builderd/data', '/var/lib/builderd2/rootfs'], '/var/lib'],
  [['/a', '/b'], undefined],
  [['/var/lib/builderd/rootfs'], '/var/lib/builderd'],
  [['/data', '/data/x'], undefined],
];
for (const [directories, want] of PARENTS) {
  test(`commonParent() of ${directories.join(', ')} is ${want}`, () => {
    assert.equal(commonParent(directories), want);
  });
}

test('readFileSystems() shows one entry a file system and leaves out what is not there', async () => {
  const found = await readFileSystems([
    `${import.meta.dirname}/a`,
    `${import.meta.dirname}/b`,
    '/proc',
    '/none/at/all',
  ]);
  assert.ok(found.every(({ freeBytes, totalBytes }) => freeBytes <= totalBytes));
  const alone = await readFileSystems([`${import.meta.dirname}/a`, `${import.meta.dirname}/b`]);
  assert.deepEqual(
    alone.map(({ mountpoint }) => mountpoint),
    [import.meta.dirname],
  );
});
