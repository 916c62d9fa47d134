import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_CONTEXT } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import fc from 'fast-check';
import { familiesOf } from '../../src/builds/metrics/merge-expositions.ts';
import { Metrics } from '../../src/builds/metrics/metrics.ts';
import { type Environment, parseConfig } from '../../src/cli/config.ts';
import { otlpMetrics } from '../../src/cli/telemetry/otlp-metrics.ts';
import { type OtlpTarget, otlpTarget } from '../../src/cli/telemetry/otlp-target.ts';
import { contextOf } from '../../src/cli/telemetry/span-tracing.ts';

function target(environment: Environment): OtlpTarget {
  const { settings, given, standardOtel } = parseConfig(environment);
  return otlpTarget(settings, given, standardOtel);
}

const ENDPOINT = 'UNKEY_BUILDERD_OTEL_ENDPOINT';
const INSECURE = 'UNKEY_BUILDERD_OTEL_INSECURE';
const STANDARD = 'OTEL_EXPORTER_OTLP_ENDPOINT';
const TARGETS: readonly (readonly [Environment, Partial<OtlpTarget>])[] = [
  [
    {},
    {
      protocol: 'http/protobuf',
      tracesUrl: 'http://localhost:4318/v1/traces',
      metricsUrl: 'http://localhost:4318/v1/metrics',
      tls: false,
    },
  ],
  [
    { [ENDPOINT]: 'https://otel.example.com:4317', [INSECURE]: 'false' },
    { protocol: 'grpc', tracesUrl: 'https://otel.example.com:4317', tls: true },
  ],
  [{ [ENDPOINT]: 'otel:4317' }, { protocol: 'grpc', tracesUrl: 'http://otel:4317', tls: false }],
  [
    { [ENDPOINT]: 'otel:4318', [INSECURE]: 'false' },
    { tracesUrl: 'https://otel:4318/v1/traces', tls: true },
  ],
  [{ [ENDPOINT]: 'http://otel/base/' }, { tracesUrl: 'http://otel/base/v1/traces' }],
  [
    { [ENDPOINT]: 'otel:4317', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
    { protocol: 'http/protobuf', tracesUrl: 'http://otel:4317/v1/traces' },
  ],
  [{ [STANDARD]: 'http://std:4318' }, { tracesUrl: 'http://std:4318/v1/traces' }],
  [
    { [STANDARD]: 'http://std:4318', [ENDPOINT]: 'own:4318' },
    { tracesUrl: 'http://own:4318/v1/traces' },
  ],
  [
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://t:1/x' },
    { tracesUrl: 'http://t:1/x', metricsUrl: 'http://localhost:4318/v1/metrics' },
  ],
  [
    { OTEL_EXPORTER_OTLP_HEADERS: 'A=b%20c, d = e', OTEL_EXPORTER_OTLP_TIMEOUT: '250' },
    { headers: { a: 'b c', d: 'e' }, timeoutMs: 250 },
  ],
];
for (const [environment, want] of TARGETS) {
  test(`otlpTarget() of ${JSON.stringify(environment)}`, () => {
    const found = target(environment);
    assert.deepEqual({ ...found, ...want }, found);
  });
}

const REFUSED: readonly Environment[] = [
  { [ENDPOINT]: 'ftp://otel' },
  { [ENDPOINT]: 'http://' },
  { [ENDPOINT]: 'https://user:pass@otel' },
  { [ENDPOINT]: 'https://otel:4317', [INSECURE]: 'true' },
  { [ENDPOINT]: 'http://otel:4317', [INSECURE]: 'false' },
  { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' },
];
for (const environment of REFUSED) {
  test(`otlpTarget() refuses ${JSON.stringify(environment)}`, () => {
    assert.throws(() => target(environment), { code: 'config.invalid' });
  });
}

test('contextOf() takes a traceparent and ignores anything else', () => {
  assert.notEqual(
    contextOf('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
    ROOT_CONTEXT,
  );
  for (const text of [
    undefined,
    '',
    '00-0-0-01',
    '01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    '00-00000000000000000000000000000000-b7ad6b7169203331-01',
    '00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01',
  ]) {
    assert.equal(contextOf(text), ROOT_CONTEXT);
  }
  fc.assert(fc.property(fc.string(), (text) => void contextOf(text)));
});

test('otlpMetrics() shows counters as sums and each bucket for itself', async () => {
  const metrics = new Metrics({
    role: 'executor',
    version: '1',
    registries: [],
    directories: [],
    maxTenants: 5,
    onFault: () => assert.fail(),
  });
  for (const durationMs of [400, 900, 900, 7200_000])
    metrics.buildFinished({ status: 'completed', durationMs });
  const data = otlpMetrics(await familiesOf(metrics.registry), {
    resource: resourceFromAttributes({}),
    startedAt: new Date(1000),
    at: new Date(2500),
  });
  const find = (name: string) =>
    data.scopeMetrics[0]?.metrics.find(({ descriptor }) => descriptor.name === name);
  const total = find('builderd_builds_total');
  assert.deepEqual(
    total?.dataPoints.find(({ attributes }) => attributes['status'] === 'completed'),
    {
      attributes: { status: 'completed' },
      value: 4,
      startTime: [1, 0],
      endTime: [2, 500_000_000],
    },
  );
  const seconds = find('builderd_builds_duration_seconds');
  assert.equal(seconds?.descriptor.unit, 's');
  assert.deepEqual(seconds?.dataPoints[0]?.value, {
    buckets: {
      boundaries: [0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600],
      counts: [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    },
    sum: 7202.2,
    count: 4,
  });
});
