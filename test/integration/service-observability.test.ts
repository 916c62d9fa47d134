import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { startTestContainerd, type TestContainerd } from '../fixtures/containerd.ts';
import {
  type OtlpReceiver,
  startGrpcReceiver,
  startHttpReceiver,
} from '../fixtures/otlp-receiver.ts';
import { lintExposition, seriesOf } from '../fixtures/prometheus.ts';
import { makeImage } from '../fixtures/registry-images.ts';
import { startTestRegistry, type TestRegistry } from '../fixtures/registry-server.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { tarOf } from '../fixtures/small-tar.ts';

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const PARENT = `00-${TRACE_ID}-b7ad6b7169203331-01`;
const ENDED = new Set(['completed', 'failed', 'cancelled']);

let containerd: TestContainerd;
let registry: TestRegistry;
let receiver: OtlpReceiver;
let service: RunningService;

before(async () => {
  containerd = await startTestContainerd();
  registry = await startTestRegistry();
  receiver = await startHttpReceiver();
  const layers = [tarOf([{ name: 'bin/app', content: 'program', mode: 0o755 }])];
  registry.publish('team/app', 'v1', makeImage({ layers }));
  service = await RunningService.start({
    settings: {
      AUTH_MODE: 'development',
      TENANT_DEFAULT_TIER: 'pro',
      CONTAINERD_ADDRESS: containerd.daemon.address,
      EGRESS_ALLOW: registry.host,
      LOG_LEVEL: 'info',
      OTEL_ENABLED: 'true',
      OTEL_ENDPOINT: receiver.address,
    },
    environment: {
      OTEL_EXPORTER_OTLP_HEADERS: 'x-api-key=canary-otel-key',
      OTEL_METRIC_EXPORT_INTERVAL: '1000',
    },
  });
});
after(async () => {
  await service?.[Symbol.asyncDispose]();
  await receiver?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await containerd?.[Symbol.asyncDispose]();
});

async function call(
  method: string,
  url: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; json: Record<string, unknown> }> {
  const answer = await fetch(`${service.apiUrl}${url}`, {
    method,
    headers: {
      'x-tenant-id': 'acme',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
}

async function build(
  reference: string,
  headers: Record<string, string> = {},
): Promise<Record<string, unknown>> {
  const created = await call('POST', '/v1/builds', { source: { image: { reference } } }, headers);
  assert.equal(created.status, 202, JSON.stringify(created.json));
  let shown = created.json;
  await service.until(async () => {
    shown = (await call('GET', `/v1/builds/${String(created.json['id'])}`)).json;
    return ENDED.has(String(shown['state']));
  }, `the end of the build of ${reference}`);
  return shown;
}

/** What an operator types behind `journalctl -u builderd`. */
async function grep(pattern: string): Promise<string[]> {
  const file = path.join(service.dir, 'journal');
  await writeFile(file, service.output);
  const { stdout } = await promisify(execFile)('grep', ['-e', pattern, file]).catch(() => ({
    stdout: '',
  }));
  return stdout.split('\n').filter((line) => line !== '');
}

test('a build is one trace from the request that asked for it to the artifact', async () => {
  await service.until(
    async () => (await fetch(`${service.apiUrl}/health/ready`)).status === 200,
    'readiness',
  );
  const shown = await build(`${registry.host}/team/app:v1`, { traceparent: PARENT });
  assert.equal(shown['state'], 'completed', JSON.stringify(shown['error']));
  const mine = (): OtlpReceiver['spans'] =>
    receiver.spans.filter(({ traceId }) => traceId === TRACE_ID);
  await service.until(() => mine().some(({ name }) => name === 'attempt'), 'the spans');
  const byName = new Map(mine().map((span) => [span.name, span]));
  assert.deepEqual([...byName.keys()].toSorted(), [
    'attempt',
    'commit',
    'convert',
    'create build',
    'pull',
    'request',
  ]);
  const parentOf = (name: string): string => byName.get(name)?.parentSpanId ?? 'none';
  const idOf = (name: string): string => byName.get(name)?.spanId ?? 'no span';
  assert.equal(parentOf('request'), 'b7ad6b7169203331');
  assert.equal(parentOf('create build'), idOf('request'));
  assert.equal(parentOf('attempt'), idOf('create build'));
  for (const step of ['pull', 'convert', 'commit'])
    assert.equal(parentOf(step), idOf('attempt'), step);
  assert.equal(byName.get('attempt')?.attributes['builderd.build_id'], shown['id']);
  assert.equal(byName.get('request')?.attributes['http.route'], '/v1/builds');
  assert.equal(receiver.resource['service.name'], 'builderd');
  assert.equal(receiver.headers.get('x-api-key'), 'canary-otel-key');
  await service.until(() => receiver.metricNames.has('builderd_builds_total'), 'metrics over OTLP');
  assert.ok(receiver.metricNames.has('builderd_builds_duration_seconds'));
});

test('metrics count what happened, under the names and labels of the operations guide', async () => {
  const failed = await build(`${registry.host}/team/none:v1`);
  assert.equal(failed['state'], 'failed');
  const text = await service.metrics();
  const series = seriesOf(text);
  const value = (name: string): number | undefined => series.get(name);
  assert.equal(value('builderd_builds_total{status="completed"}'), 1);
  assert.equal(value('builderd_builds_total{status="failed"}'), 1);
  assert.equal(value('builderd_builds_total{status="cancelled"}'), 0);
  assert.equal(value('builderd_builds_duration_seconds_count'), 2);
  assert.equal(value('builderd_builds_queue_size'), 0);
  assert.ok((value('builderd_memory_usage_bytes') ?? 0) > 50 * 1024 ** 2);
  assert.ok((value('builderd_disk_usage_bytes') ?? 0) > 0);
  assert.equal(value('builderd_docker_pulls_total{registry="other"}'), 1);
  assert.equal(value('builderd_docker_pull_duration_seconds_count'), 1);
  assert.equal(value('builderd_tenant_quota_usage{tenant_id="acme",quota_type="daily_builds"}'), 2);
  assert.equal(
    value('builderd_tenant_quota_limit{tenant_id="acme",quota_type="daily_builds"}'),
    100,
  );
  assert.equal(
    value('builderd_quota_violations_total{tenant_id="acme",quota_type="daily_builds"}'),
    0,
  );
  assert.ok((value(`disk_free_bytes{mountpoint="${service.dir}"}`) ?? 0) > 0);
  assert.ok((value(`disk_total_bytes{mountpoint="${service.dir}"}`) ?? 0) > 0);
  assert.equal(value('builderd_db_up'), 1);
  assert.equal(value('builderd_containerd_up'), 1);
  assert.equal(value('builderd_attempts_total{outcome="completed"}'), 1);
  // A percentage is what the guide's name says; promtool would have a ratio.
  const complaints = (await lintExposition(text)).split('\n').filter((line) => line !== '');
  assert.deepEqual(
    complaints.filter((line) => !line.startsWith('builderd_cpu_usage_percent ')),
    [],
  );
});

test('the log answers what the operations guide greps for', async () => {
  const quota = await call('PATCH', '/v1/tenants/acme', { overrides: { maxDailyBuilds: 2 } });
  assert.equal(quota.status, 200, JSON.stringify(quota.json));
  const refused = await call('POST', '/v1/builds', {
    source: { image: { reference: `${registry.host}/team/app:v1` } },
  });
  assert.equal(refused.status, 429, JSON.stringify(refused.json));
  process.kill(service.rolePid('executor'), 'SIGKILL');
  await service.until(
    () => service.find('A role is ready', { role: 'executor' }).length === 2,
    'a new executor',
  );

  assert.ok((await grep('ERROR')).some((line) => line.includes('A role ended')));
  assert.equal((await grep('build_status.*failed')).length, 1);
  assert.equal((await grep('quota.*exceeded')).length, 1);
  // What the killed executor counted is still there.
  const series = seriesOf(await service.metrics());
  assert.equal(series.get('builderd_builds_total{status="completed"}'), 1);
  assert.equal(
    series.get('builderd_quota_violations_total{tenant_id="acme",quota_type="daily_builds"}'),
    1,
  );
});

test('no secret is in the log, the metrics or the traces', async () => {
  const page = await fetch(`${service.apiUrl}/debug/status`);
  const places = [
    service.output,
    await service.metrics(),
    await page.text(),
    ...receiver.raw.map(String),
  ];
  for (const place of places) assert.doesNotMatch(place, /canary/);
});

test('an api alone sends OTLP over gRPC when asked to, and counts what it cancels', async () => {
  await using collector = await startGrpcReceiver();
  await using other = await RunningService.start({
    settings: {
      AUTH_MODE: 'development',
      OTEL_ENABLED: 'true',
      OTEL_ENDPOINT: `http://${collector.address}`,
    },
    environment: {
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_METRIC_EXPORT_INTERVAL: '1000',
      OTEL_EXPORTER_OTLP_HEADERS: 'x-api-key=k%20ey',
    },
    args: ['--role', 'api'],
  });
  await fetch(`${other.apiUrl}/v1/tenants`);
  await other.until(() => collector.spans.some(({ name }) => name === 'request'), 'a span');
  await other.until(() => collector.metricNames.has('builderd_http_requests_total'), 'metrics');
  assert.equal(collector.headers.get('x-api-key'), 'k ey');

  // No executor will ever hear of this build: the api counts it.
  const headers = { 'x-tenant-id': 'acme', 'content-type': 'application/json' };
  const created = await fetch(`${other.apiUrl}/v1/builds`, {
    method: 'POST',
    headers,
    body: '{"source":{"image":{"reference":"debian:12"}}}',
  });
  const { id } = (await created.json()) as { id: string };
  const cancelled = await fetch(`${other.apiUrl}/v1/builds/${id}/cancel`, {
    method: 'POST',
    headers,
    body: '{}',
  });
  assert.ok(cancelled.ok, await cancelled.text());
  const series = seriesOf(await other.metrics());
  assert.equal(series.get('builderd_builds_total{status="cancelled"}'), 1);
  assert.equal(series.get('builderd_builds_duration_seconds_count'), 0);
  assert.equal(await other.stop(), 0);
});
