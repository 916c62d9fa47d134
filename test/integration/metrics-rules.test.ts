import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics } from '../../src/builds/metrics/metrics.ts';
import { evaluateRules, seriesOf } from '../fixtures/prometheus.ts';

/** The operations guide's rules, as it prints them. */
const RULES = `
groups:
- name: builderd
  rules:
  - alert: BuilderdServiceDown
    expr: up{job="builderd"} == 0
    for: 5m
    labels:
      severity: critical
    annotations:
      summary: "Builderd service is down"

  - alert: BuilderdHighFailureRate
    expr: rate(builderd_builds_total{status="failed"}[5m]) > 0.1
    for: 10m
    labels:
      severity: warning
    annotations:
      summary: "High build failure rate: {{ $value }}"

  - alert: BuilderdDiskSpaceLow
    expr: disk_free_bytes{mountpoint="/var/lib/builderd"} / disk_total_bytes * 100 < 10
    for: 5m
    labels:
      severity: warning
    annotations:
      summary: "Builderd disk space low: {{ $value }}% remaining"

  - alert: BuilderdQuotaViolation
    expr: increase(builderd_quota_violations_total[5m]) > 0
    for: 1m
    labels:
      severity: warning
    annotations:
      summary: "Quota violation detected for tenant {{ $labels.tenant_id }}"
`;

function makeMetrics(): Metrics {
  return new Metrics({
    role: 'executor',
    version: '1.2.3',
    registries: [],
    directories: [],
    maxTenants: 100,
    onFault: (collector, reason) => assert.fail(`${collector}: ${String(reason)}`),
  });
}

const text = (metrics: Metrics): Promise<string> => metrics.registry.metrics();

test("the guide's alerts fire for what they are about, and for nothing else", async () => {
  const metrics = makeMetrics();
  const scrapes: string[] = [];
  scrapes.push(await text(metrics));
  // The first violation of a tenant that nobody has heard of before.
  metrics.violation({ tenant: 'acme', quotaType: 'storage' });
  scrapes.push(await text(metrics));
  for (let minute = 0; minute < 20; minute += 1) {
    for (let build = 0; build < 7; build += 1)
      metrics.buildFinished({ status: 'failed', durationMs: 900 });
    metrics.buildFinished({ status: 'completed', durationMs: 1500 });
    scrapes.push(await text(metrics));
  }
  const quiet = { firing: [], annotations: [] };
  await evaluateRules({
    rules: RULES,
    scrapes,
    alerts: [
      { alert: 'BuilderdQuotaViolation', at: '1m', ...quiet },
      {
        alert: 'BuilderdQuotaViolation',
        at: '4m',
        firing: [{ severity: 'warning', tenant_id: 'acme', quota_type: 'storage' }],
        annotations: [{ summary: 'Quota violation detected for tenant acme' }],
      },
      { alert: 'BuilderdQuotaViolation', at: '15m', ...quiet },
      { alert: 'BuilderdHighFailureRate', at: '5m', ...quiet },
      {
        alert: 'BuilderdHighFailureRate',
        at: '20m',
        firing: [{ severity: 'warning', status: 'failed' }],
        annotations: [{ summary: 'High build failure rate: 0.11666666666666667' }],
      },
      { alert: 'BuilderdHighFailureRate', at: '60m', ...quiet },
      { alert: 'BuilderdDiskSpaceLow', at: '20m', ...quiet },
    ],
    expressions: [
      // The guide's panel divides label by label: always 100.
      {
        expr: 'rate(builderd_builds_total{status="completed"}[5m]) / rate(builderd_builds_total[5m]) * 100',
        at: '20m',
        samples: [{ labels: '{status="completed"}', value: 100 }],
      },
      {
        expr: 'sum(rate(builderd_builds_total{status="completed"}[5m])) / sum(rate(builderd_builds_total[5m])) * 100',
        at: '20m',
        samples: [{ labels: '{}', value: 12.5 }],
      },
    ],
  });
});

test("the guide's panels show the queue and the running builds, its disk alert a full disk", async () => {
  const metrics = makeMetrics();
  metrics.setQueue({ size: 4, oldestMs: 9000 });
  metrics.setActiveBuilds(
    new Map([
      ['acme', 2],
      ['globex', 1],
    ]),
  );
  const shown = await text(metrics);
  // A disk cannot be filled here: the same two families, with another disk's numbers.
  const disk = `${shown}\ndisk_free_bytes{mountpoint="/var/lib/builderd"} 5e+09\ndisk_total_bytes{mountpoint="/var/lib/builderd"} 1e+11\n`;
  assert.ok(seriesOf(disk).has('disk_free_bytes{mountpoint="/var/lib/builderd"}'));
  await evaluateRules({
    rules: RULES,
    scrapes: [disk],
    alerts: [
      {
        alert: 'BuilderdDiskSpaceLow',
        at: '6m',
        firing: [{ severity: 'warning', mountpoint: '/var/lib/builderd' }],
        annotations: [{ summary: 'Builderd disk space low: 5% remaining' }],
      },
    ],
    expressions: [
      {
        expr: 'builderd_builds_queue_size',
        at: '1m',
        samples: [{ labels: 'builderd_builds_queue_size', value: 4 }],
      },
      {
        expr: 'sum(builderd_tenant_builds_active)',
        at: '1m',
        samples: [{ labels: '{}', value: 3 }],
      },
    ],
  });
});

test('evaluateRules() fails when an expectation does not hold', async () => {
  const nothing = await text(makeMetrics());
  await assert.rejects(
    evaluateRules({
      rules: RULES,
      scrapes: [nothing],
      alerts: [],
      expressions: [
        {
          expr: 'builderd_builds_queue_size',
          at: '1m',
          samples: [{ labels: 'builderd_builds_queue_size', value: 9 }],
        },
      ],
    }),
    /promtool/,
  );
});
