import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { toJsonString } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node';
import { runProgram } from '../../contrib/dev/run-program.ts';
import {
  BuildConfigSchema,
  BuilderService,
  BuildState,
  TenantTier,
} from '../../src/api/rpc/generated/builder_pb.js';
import { encodeGrpcMessage } from '../../src/api/rpc/grpc-message.ts';
import { rpcExtension } from '../../src/api/rpc/rpc-extension.ts';
import { type ApiHarness, startTestApi } from '../fixtures/api.ts';
import { silentLog } from '../fixtures/databases.ts';
import { grpcCaller } from '../fixtures/rpc-clients.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const start = (): Promise<ApiHarness> => startTestApi({ extensions: [rpcExtension(silentLog)] });

const config = (tenantId: string) => ({
  tenant: { tenantId },
  source: {
    sourceType: {
      case: 'dockerImage' as const,
      value: { imageUri: 'debian:12', auth: { username: 'u', password: 'canary-41' } },
    },
  },
  target: { targetType: { case: 'microvmRootfs' as const, value: { initStrategy: 2 } } },
  strategy: {
    strategyType: { case: 'dockerExtract' as const, value: { flattenFilesystem: true } },
  },
  buildName: 'web',
  labels: { team: 'a' },
  limits: { timeoutSeconds: 60 },
});

/** The same for a client that knows the proto only: oneofs are plain fields there. */
const plainConfig = (tenantId: string) => ({
  tenant: { tenantId },
  source: { dockerImage: { imageUri: 'debian:12' } },
  target: { microvmRootfs: { initStrategy: 'INIT_STRATEGY_DIRECT' } },
  strategy: { dockerExtract: { flattenFilesystem: true } },
  buildName: 'web',
  labels: { team: 'a' },
});

test('the generated messages are those of proto/builder/v1', async () => {
  await runProgram(process.execPath, [join(ROOT, 'contrib/dev/gen-public-proto.ts'), '--check']);
});

for (const packageName of ['builder.v1', 'deploy.builderd.v1'] as const) {
  test(`a plain gRPC client drives all eight methods of ${packageName}`, async () => {
    await using api = await start();
    const { ref, token } = await api.tenant('acme');
    using client = grpcCaller(api.port, packageName);

    const made = await client.unary('CreateBuild', { config: plainConfig('acme') }, token);
    assert.equal(made['state'], 'BUILD_STATE_PENDING');
    const buildId = String(made['buildId']);

    await api.log(buildId, ['pulling', 'done'], { end: true });
    await api.artifact(ref, buildId, 'rootfs.ext4', Buffer.from('disk'));
    const { build } = await client.unary('GetBuild', { buildId, tenantId: 'acme' }, token);
    const shown = build as Record<string, unknown>;
    assert.equal(shown['buildId'], buildId);
    assert.equal(shown['rootfsPath'], `/v1/builds/${buildId}/artifacts/rootfs.ext4`);
    assert.equal(shown['rootfsSizeBytes'], '4');
    assert.match(String(shown['rootfsChecksum']), /^[0-9a-f]{64}$/);
    assert.ok((shown['buildLogs'] as string[]).includes('done'));

    const page = await client.unary('ListBuilds', { tenantId: 'acme', pageSize: 1 }, token);
    assert.equal(page['totalCount'], 1);

    const entries = await client.stream(
      'StreamBuildLogs',
      { buildId, tenantId: 'acme', follow: true },
      token,
    );
    assert.ok(entries.some(({ message }) => message === 'done'));

    const quotas = await client.unary('GetTenantQuotas', { tenantId: 'acme' }, token);
    assert.equal((quotas['currentLimits'] as Record<string, unknown>)['maxDailyBuilds'], 1000);

    const stats = await client.unary('GetBuildStats', { tenantId: 'acme' }, token);
    assert.equal(stats['totalBuilds'], 1);

    const second = await client.unary('CreateBuild', { config: plainConfig('acme') }, token);
    const cancelled = await client.unary(
      'CancelBuild',
      { buildId: second['buildId'], tenantId: 'acme' },
      token,
    );
    assert.deepEqual(cancelled, { success: true, state: 'BUILD_STATE_CANCELLED' });
    const deleted = await client.unary(
      'DeleteBuild',
      { buildId: second['buildId'], tenantId: 'acme' },
      token,
    );
    assert.deepEqual(deleted, { success: true });
    await assert.rejects(
      client.unary('GetBuild', { buildId: second['buildId'], tenantId: 'acme' }, token),
      { code: Code.NotFound },
    );
  });
}

const transports: [string, (baseUrl: string) => Transport][] = [
  ['Connect over HTTP/1.1', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1' })],
  ['Connect over HTTP/2', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '2' })],
  [
    'Connect with binary messages',
    (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: true }),
  ],
  ['gRPC', (baseUrl) => createGrpcTransport({ baseUrl })],
  ['gRPC-Web', (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' })],
];

for (const [name, transport] of transports) {
  test(`an unmodified ${name} client drives all eight methods, and gets typed faults`, async () => {
    await using api = await start();
    const { token } = await api.tenant('acme');
    const other = await api.tenant('other');
    const client = createClient(BuilderService, transport(api.url));
    const as = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } });

    const made = await client.createBuild({ config: config('acme') }, as(token));
    assert.equal(made.state, BuildState.PENDING);
    const { buildId } = made;
    await api.log(buildId, ['one', 'two'], { end: true });
    const { build } = await client.getBuild({ buildId, tenantId: 'acme' }, as(token));
    assert.equal(build?.config?.buildName, 'web');
    assert.equal(build?.config?.tenant?.tier, TenantTier.PRO);
    assert.ok(build?.config);
    assert.doesNotMatch(toJsonString(BuildConfigSchema, build.config), /canary-41/);
    const page = await client.listBuilds(
      {
        tenantId: 'acme',
        stateFilter: [BuildState.FAILED, BuildState.COMPLETED, BuildState.CANCELLED],
      },
      as(token),
    );
    assert.equal(page.builds.length, 1);
    const messages: string[] = [];
    for await (const entry of client.streamBuildLogs(
      { buildId, tenantId: 'acme', follow: true },
      as(token),
    )) {
      messages.push(entry.message);
    }
    assert.ok(messages.includes('one') && messages.includes('two'), messages.join());
    assert.ok((await client.getTenantQuotas({ tenantId: 'acme' }, as(token))).currentLimits);
    assert.equal((await client.getBuildStats({ tenantId: 'acme' }, as(token))).totalBuilds, 1);
    const second = await client.createBuild({ config: config('acme') }, as(token));
    assert.ok((await client.cancelBuild({ buildId: second.buildId }, as(token))).success);
    assert.ok((await client.deleteBuild({ buildId: second.buildId }, as(token))).success);

    const faults: [string, Code, () => Promise<unknown>][] = [
      ['no token', Code.Unauthenticated, () => client.getBuild({ buildId })],
      [
        'another tenant, named',
        Code.PermissionDenied,
        () => client.getBuild({ buildId, tenantId: 'acme' }, as(other.token)),
      ],
      [
        'another tenant’s build',
        Code.NotFound,
        () => client.getBuild({ buildId }, as(other.token)),
      ],
      [
        'an id that cannot be',
        Code.NotFound,
        () => client.getBuild({ buildId: '../x' }, as(token)),
      ],
      ['no config', Code.InvalidArgument, () => client.createBuild({}, as(token))],
      [
        'git',
        Code.Unimplemented,
        () =>
          client.createBuild(
            {
              config: {
                ...config('acme'),
                source: {
                  sourceType: {
                    case: 'gitRepository',
                    value: { repositoryUrl: 'https://git.example/x' },
                  },
                },
              },
            },
            as(token),
          ),
      ],
      [
        'an optimisation that nobody can do yet',
        Code.Unimplemented,
        () =>
          client.createBuild(
            {
              config: {
                ...config('acme'),
                target: {
                  targetType: {
                    case: 'microvmRootfs',
                    value: { optimization: { compressBinaries: true } },
                  },
                },
              },
            },
            as(token),
          ),
      ],
      [
        'a forged page token',
        Code.InvalidArgument,
        () => client.listBuilds({ pageToken: 'x' }, as(token)),
      ],
      [
        'a stream without a token',
        Code.Unauthenticated,
        () => drain(client.streamBuildLogs({ buildId })),
      ],
      [
        'a stream of another tenant',
        Code.NotFound,
        () => drain(client.streamBuildLogs({ buildId }, as(other.token))),
      ],
    ];
    for (const [what, code, run] of faults) {
      const fault = await run().then(
        () => undefined,
        (reason: unknown) => ConnectError.from(reason),
      );
      assert.equal(fault?.code, code, `${what}: ${fault?.message ?? 'no fault'}`);
    }
  });
}

test('a plain gRPC client reads the message of a fault as it was written', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  using caller = grpcCaller(api.port, 'builder.v1');
  const detailsOf = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => 'none',
      (reason: unknown) => Reflect.get(reason as object, 'details'),
    );
  const buildId = '0199d0b6-1111-7c1e-9f3a-2b7c5d1e4f60';
  const words = /^Cannot find the build: there is none with this id\. .*; `builderctl /;
  assert.match(String(await detailsOf(caller.unary('GetBuild', { buildId }, token))), words);
  assert.match(
    String(await detailsOf(caller.stream('StreamBuildLogs', { buildId }, token))),
    words,
  );
  const refused = String(await detailsOf(caller.unary('GetBuild', { buildId }, 'bld_wrong')));
  assert.match(refused, /^Cannot .*: .* `Authorization: Bearer …`/);
  assert.doesNotMatch(refused, /%/);
  // What is refused before a handler is a status of gRPC too, on calls of both kinds.
  for (const work of [
    caller.unary('GetBuild', { buildId }, 'bld_wrong'),
    caller.unary('GetBuild', { buildId }),
    caller.stream('StreamBuildLogs', { buildId }, 'bld_wrong'),
  ]) {
    await assert.rejects(work, { code: Code.Unauthenticated });
  }
});

test('encodeGrpcMessage() leaves printable ASCII alone, and is undone by every decoder', () => {
  assert.equal(encodeGrpcMessage('a: b; c/d?e=f&g#h'), 'a: b; c/d?e=f&g#h');
  assert.equal(encodeGrpcMessage('50 % é\n'), '50 %25 %C3%A9%0A');
  for (const text of ['100 %3A', 'ü\u0000\u007f🦀', 'it\'s `quoted` \\ "x"']) {
    assert.equal(decodeURIComponent(encodeGrpcMessage(text)), text);
  }
});

test('curl calls a method with JSON in either spelling, and unknown fields are refused', async () => {
  await using api = await start();
  const { token } = await api.tenant('acme');
  const post = (body: unknown, path = 'builder.v1.BuilderService/CreateBuild') =>
    api.fetch(`/${path}`, { method: 'POST', token, json: body });
  for (const docker of [
    { dockerImage: { imageUri: 'debian:12' } },
    { docker_image: { image_uri: 'debian:12' } },
  ]) {
    const answer = await post({
      config: { tenant: { tenant_id: 'acme' }, source: docker, target: {}, strategy: {} },
    });
    assert.equal(answer.status, 200, await answer.clone().text());
  }
  const unknown = await post({ config: {}, isolation: {} });
  assert.equal(unknown.status, 400);
  assert.match(await unknown.text(), /invalid_argument/);
  const compressed = await api.fetch('/builder.v1.BuilderService/GetBuild', {
    method: 'POST',
    token,
    body: 'x',
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
  });
  assert.equal(compressed.status, 415);
});

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const item of stream) assert.ok(item);
}
