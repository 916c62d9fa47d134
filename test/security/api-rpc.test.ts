import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { create, fromJson, type JsonObject, toBinary } from '@bufbuild/protobuf';
import {
  BuilderService,
  BuildState,
  CreateBuildRequestSchema,
  ListBuildsRequestSchema,
} from '../../src/api/rpc/generated/builder_pb.js';
import { rpcExtension } from '../../src/api/rpc/rpc-extension.ts';
import type { BuildService } from '../../src/builds/service/build-service.ts';
import { type ApiHarness, type LogLine, memoryLog, startTestApi } from '../fixtures/api.ts';
import { silentLog } from '../fixtures/databases.ts';
import { grpcCaller } from '../fixtures/rpc-clients.ts';

const SERVICE = '/builder.v1.BuilderService';
const start = (): Promise<ApiHarness> => startTestApi({ extensions: [rpcExtension(silentLog)] });

const CONFIG = {
  tenant: { tenantId: 'acme' },
  source: { dockerImage: { imageUri: 'debian:12' } },
  target: { microvmRootfs: { initStrategy: 'INIT_STRATEGY_DIRECT' } },
  strategy: { dockerExtract: { flattenFilesystem: true } },
};

function envelope(message: string | Uint8Array, flags = 0): Buffer<ArrayBuffer> {
  const payload = Buffer.from(message);
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

test('a binary message that does not parse is a fault of its caller, in every protocol', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  // A field of 127 bytes that ends after none, and an end of a group that never began.
  for (const message of [Buffer.from([0x0a, 0x7f]), Buffer.from([0x0c])]) {
    const forms: readonly (readonly [string, string, Buffer<ArrayBuffer>])[] = [
      ['application/proto', 'GetBuild', message],
      ['application/grpc-web+proto', 'GetBuild', envelope(message)],
      ['application/connect+proto', 'StreamBuildLogs', envelope(message)],
    ];
    for (const [type, method, body] of forms) {
      const answer = await api.fetch(`${SERVICE}/${method}`, {
        method: 'POST',
        token,
        body,
        headers: { 'content-type': type },
      });
      const text = [...answer.headers, await answer.text()].join('\n').replaceAll('%20', ' ');
      const what = `${type}: ${answer.status} ${text}`;
      assert.match(text, /invalid_argument|grpc-status[:,] ?3/, what);
      assert.match(
        text,
        /its message is no builder\.v1\.\w+Request.*Correct the named field/,
        what,
      );
      assert.match(text, /builderd-error-code.*api\.invalid/s, what);
    }
  }
});

test('G12: JSON of calls is held to what REST takes: size, depth, keys, and none of them twice', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  const call = async (
    text: string | Buffer<ArrayBuffer>,
  ): Promise<[status: number, text: string]> => {
    const answer = await api.fetch(`${SERVICE}/CreateBuild`, {
      method: 'POST',
      token,
      body: text,
      headers: { 'content-type': 'application/json' },
    });
    return [answer.status, await answer.text()];
  };
  const good = JSON.stringify({ config: CONFIG });
  const refused: [name: string, text: string | Buffer<ArrayBuffer>][] = [
    ['a key twice', good.replace('{"tenantId"', '{"tenantId":"other","tenantId"')],
    ['a key under both of its names', good.replace('{"tenantId"', '{"tenant_id":"x","tenantId"')],
    ['a key in two cases', good.replace('{"tenantId"', '{"TenantId":"x","tenantId"')],
    ['__proto__', good.replace('{"tenantId"', '{"__proto__":{},"tenantId"')],
    ['NUL', good.replace('debian:12', 'debian\\u0000')],
    ['depth', `{"config":${'['.repeat(50_000)}`],
    ['keys', `{${Array.from({ length: 20_000 }, (_, n) => `"k${n}":1`).join()}}`],
    ['no UTF-8', Buffer.from(good.replace('debian', '\u00ff'), 'latin1')],
  ];
  for (const [name, text] of refused) {
    const [status, body] = await call(text);
    assert.deepEqual([status, body.includes('invalid_argument')], [400, true], `${name}: ${body}`);
  }
  const [status, body] = await call(' '.repeat(1024 ** 2 + 10));
  assert.deepEqual([status, body.includes('resource_exhausted')], [429, true], body);
  const packed = await api.fetch(`${SERVICE}/CreateBuild`, {
    method: 'POST',
    token,
    body: good,
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
  });
  assert.equal(packed.status, 415);
  assert.match(await packed.text(), /"code":"invalid_argument"/);
  const maps = { ...CONFIG, labels: { team: 'a', Team: 'b' } };
  assert.deepEqual((await call(JSON.stringify({ config: maps })))[0], 200);
});

test('G12: JSON in envelopes is held to the same, in all protocols', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  await api.log(id, ['one'], { end: true });
  const good = `{"buildId":"${id}"}`;
  const twice = `{"buildId":"x","build_id":"${id}"}`;
  for (const type of ['connect+json', 'grpc-web+json']) {
    const call = async (body: Buffer<ArrayBuffer>): Promise<string> => {
      const answer = await api.fetch(`${SERVICE}/StreamBuildLogs`, {
        method: 'POST',
        token,
        body,
        headers: { 'content-type': `application/${type}` },
      });
      assert.equal(answer.status, 200, type);
      const text = await answer.text();
      return `${text} ${answer.headers.get('grpc-message') ?? ''}`;
    };
    assert.match(await call(envelope(good)), /one/, type);
    for (const flags of [0, 0x04, 0x40]) {
      const refused = await call(envelope(twice, flags));
      const words = decodeURIComponent(refused.replaceAll(/%(?![0-9A-F]{2})/g, ''));
      assert.doesNotMatch(refused, /one/, `${type} ${flags}`);
      assert.match(words, /twice/, `${type} ${flags}`);
    }
    // Compressed ones are nobody's to look into.
    assert.doesNotMatch(await call(envelope(good, 0x01)), /one/, type);
  }
});

test('G12: free fields of a BuildConfig are bounded like those of REST, in JSON and in binary', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  const send = async (type: string, body: string | Buffer<ArrayBuffer>): Promise<string> => {
    const answer = await api.fetch(`${SERVICE}/CreateBuild`, {
      method: 'POST',
      token,
      body,
      headers: { 'content-type': `application/${type}` },
    });
    return `${answer.status} ${await answer.text()}`;
  };
  const members = (
    count: number,
    key: (n: number) => string,
    value: string,
  ): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [key(n), value]));
  const named = (n: number): string => `k${n}`;
  const tenant = (more: JsonObject): JsonObject => ({ tenant: { tenantId: 'acme', ...more } });
  const refused: [field: string, change: JsonObject][] = [
    ['customer_id', tenant({ customerId: 'x'.repeat(129) })],
    ['customer_id', tenant({ customerId: 'a\u001b[2J' })],
    ['organization_id', tenant({ organizationId: 'x'.repeat(129) })],
    ['organization_id', tenant({ organizationId: 'a\nb' })],
    ['permissions', tenant({ permissions: Array<string>(1001).fill('a') })],
    ['permissions', tenant({ permissions: ['x'.repeat(129)] })],
    ['permissions', tenant({ permissions: ['a\u0085'] })],
    ['metadata', tenant({ metadata: members(65, named, 'v') })],
    ['metadata', tenant({ metadata: members(1, () => 'k'.repeat(129), 'v') })],
    ['metadata', tenant({ metadata: members(1, () => 'a\u0007', 'v') })],
    ['metadata', tenant({ metadata: members(1, named, 'v'.repeat(1025)) })],
    ['metadata', tenant({ metadata: { case: 'v'.repeat(1025), value: 'b' } })],
    ['metadata', tenant({ metadata: members(1, named, '\u009b') })],
    ['labels', { labels: members(65, named, 'v') }],
    ['labels', { labels: members(1, () => 'k'.repeat(129), 'v') }],
    ['labels', { labels: members(1, named, 'v'.repeat(1025)) }],
    ['labels', { labels: members(1, named, 'a\u0007') }],
    ['build_?name|/name', { buildName: 'x'.repeat(201) }],
    ['build_?name|/name', { buildName: 'a\u007f' }],
  ];
  for (const [field, change] of refused) {
    const request: JsonObject = { config: { ...CONFIG, ...change } };
    const json = await send('json', JSON.stringify(request));
    assert.match(json, /^400 .*invalid_argument/, JSON.stringify(change).slice(0, 80));
    const message = fromJson(CreateBuildRequestSchema, request);
    const binary = await send('proto', Buffer.from(toBinary(CreateBuildRequestSchema, message)));
    assert.match(binary, new RegExp(`^400 .*(?:${field})`), binary);
  }
  const most = {
    ...CONFIG,
    ...tenant({
      customerId: 'é'.repeat(128),
      permissions: ['read', 'write'],
      metadata: members(32, named, 'v'.repeat(1024)),
    }),
    labels: { case: 'a', value: 'b' },
  };
  assert.match(await send('json', JSON.stringify({ config: most })), /^200 /);
  const tooMuch = {
    ...CONFIG,
    ...tenant({ metadata: members(64, named, 'v'.repeat(1024)) }),
  };
  assert.match(await send('json', JSON.stringify({ config: tooMuch })), /resource_exhausted/);
});

test('G18: filters and periods of calls are bounded', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  const client = createClient(
    BuilderService,
    createConnectTransport({ baseUrl: api.url, httpVersion: '1.1', useBinaryFormat: true }),
  );
  const as = { headers: { authorization: `Bearer ${token}` } };
  const invalid: [name: string, call: () => Promise<unknown>][] = [
    [
      'states',
      () => client.listBuilds({ stateFilter: Array<BuildState>(10).fill(BuildState.PENDING) }, as),
    ],
    ['a page below 0', () => client.listBuilds({ pageSize: -1 }, as)],
    ['a page above 500', () => client.listBuilds({ pageSize: 501 }, as)],
    ['a time too late', () => client.getBuildStats({ endTime: { seconds: 2n ** 62n } }, as)],
    ['a time too early', () => client.getBuildStats({ startTime: { seconds: -1n } }, as)],
  ];
  for (const [name, call] of invalid) {
    await assert.rejects(call(), { code: Code.InvalidArgument }, name);
  }
  const period = { startTime: { seconds: 0n }, endTime: { seconds: 253_402_300_799n } };
  assert.equal((await client.getBuildStats(period, as)).totalBuilds, 0);
});

test('a page of ListBuilds ends at 1 MiB as well as at its size, and the next goes on', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  const labels = Object.fromEntries(
    Array.from({ length: 64 }, (_, n) => [`label-${n}`, 'x'.repeat(1024)]),
  );
  const spec = { source: { image: { reference: 'debian:12' } }, labels };
  const ids: string[] = [];
  for (let n = 0; n < 20; n += 1) ids.push(await api.build(token, spec));
  const seen: string[] = [];
  let pageToken = '';
  do {
    const answer = await api.fetch(`${SERVICE}/ListBuilds`, {
      method: 'POST',
      token,
      json: { pageSize: 500, pageToken },
    });
    assert.equal(answer.status, 200);
    const text = await answer.text();
    assert.ok(text.length < 1.1 * 1024 ** 2, `a page of ${text.length} bytes`);
    const page = JSON.parse(text) as { builds: { buildId: string }[]; nextPageToken?: string };
    seen.push(...page.builds.map(({ buildId }) => buildId));
    pageToken = page.nextPageToken ?? '';
  } while (pageToken !== '');
  assert.deepEqual(seen, ids.toReversed());
});

test('faults while an answer is put into bytes are logged under the id of the request', async () => {
  const unsendable = (service: BuildService): BuildService => ({
    ...service,
    // JSON has no time that late, and the binary form no number that large.
    list: async (...call) => {
      const { builds } = await service.list(...call);
      return { builds: builds.map((build) => ({ ...build, createdAt: 1e17 })), total: 2 ** 40 };
    },
    followLog: async function* (...call) {
      for await (const batch of service.followLog(...call)) {
        yield batch.map((entry) => ({ ...entry, time: 1e17 }));
      }
    },
  });
  const lines: LogLine[] = [];
  await using inner = await startTestApi();
  await using api = await startTestApi({
    builds: unsendable(inner.harness.service),
    tenants: inner.services.tenants,
    events: inner.services.events,
    extensions: [rpcExtension(memoryLog(lines))],
  });
  const { token } = await inner.tenant('acme');
  const id = await inner.build(token);
  await inner.log(id, ['one'], { end: true });
  const calls: [method: string, type: string, body: Buffer<ArrayBuffer>][] = [
    ['ListBuilds', 'json', Buffer.from('{}')],
    [
      'ListBuilds',
      'proto',
      Buffer.from(toBinary(ListBuildsRequestSchema, create(ListBuildsRequestSchema))),
    ],
    ['ListBuilds', 'grpc-web+proto', envelope('')],
    ['StreamBuildLogs', 'grpc-web+json', envelope(`{"buildId":"${id}","follow":true}`)],
    ['StreamBuildLogs', 'connect+json', envelope(`{"buildId":"${id}","follow":true}`)],
  ];
  for (const [method, type, body] of calls) {
    lines.length = 0;
    const answer = await api.fetch(`${SERVICE}/${method}`, {
      method: 'POST',
      token,
      body,
      headers: { 'content-type': `application/${type}` },
    });
    await answer.arrayBuffer();
    const requestId = answer.headers.get('x-request-id');
    assert.deepEqual(
      lines.map(({ level, fields }) => [level, fields.requestId]),
      [['error', requestId]],
      `${method} as ${type}`,
    );
  }
  lines.length = 0;
  using grpc = grpcCaller(api.port, 'builder.v1');
  await assert.rejects(grpc.unary('ListBuilds', {}, token), { code: 13 });
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, typeof fields.requestId]),
    [['error', 'string']],
  );
  // What a client sends amiss is no fault of ours, whatever the protocol calls it.
  lines.length = 0;
  const amiss = await api.fetch(`${SERVICE}/GetBuild`, {
    method: 'POST',
    token,
    body: Buffer.from([0xff]),
    headers: { 'content-type': 'application/proto' },
  });
  assert.equal(amiss.ok, false);
  assert.deepEqual(lines, []);
});
