import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, suite, test } from 'node:test';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { rpcExtension } from '../../src/api/rpc/rpc-extension.ts';
import type { ConvertCall } from '../../src/builds/worker/converter.ts';
import { parseDigest } from '../../src/core/digest.ts';
import { parseBuildId } from '../../src/core/ids.ts';
import { requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';
import { openTestSqlite, silentLog } from '../fixtures/databases.ts';
import { type ExecutorService, openExecutorService } from '../fixtures/executor-service.ts';
import { type GrpcCaller, grpcCaller } from '../fixtures/rpc-clients.ts';
import { tarOf } from '../fixtures/small-tar.ts';

/** One file for each rule, and a large one for the limits. */
const REFERENCE = 'example.test/fields:1';
const NAMES = [
  'app/main',
  'app/main.log',
  'app/sub/deep.log',
  'etc/motd',
  'usr/share/doc/app/copyright',
  'usr/share/doc/app/README',
  'usr/share/man/man1/app.1',
  'var/cache/app/blob',
  'tmp/.left',
];

/** What a request says, and which of the names are gone then. */
const CASES: readonly (readonly [string, Readonly<Record<string, unknown>>, readonly string[]])[] =
  [
    ['nothing said, everything stays', {}, []],
    [
      'docker_extract.exclude_patterns',
      { strategy: { dockerExtract: { excludePatterns: ['app/*.log', 'etc'] } } },
      ['app/main.log', 'etc/motd'],
    ],
    [
      'optimization.exclude_patterns',
      { target: { microvmRootfs: { optimization: { excludePatterns: ['**/*.log'] } } } },
      ['app/main.log', 'app/sub/deep.log'],
    ],
    [
      'microvm_rootfs.preserve_paths',
      {
        target: { microvmRootfs: { preservePaths: ['app/sub'] } },
        strategy: { dockerExtract: { excludePatterns: ['app'] } },
      },
      ['app/main', 'app/main.log'],
    ],
    [
      'optimization.preserve_paths',
      {
        target: {
          microvmRootfs: {
            optimization: { excludePatterns: ['app'], preservePaths: ['app/main'] },
          },
        },
      },
      ['app/main.log', 'app/sub/deep.log'],
    ],
    [
      'optimization.remove_docs',
      { target: { microvmRootfs: { optimization: { removeDocs: true } } } },
      ['usr/share/doc/app/README', 'usr/share/man/man1/app.1'],
    ],
    [
      'optimization.remove_cache',
      { target: { microvmRootfs: { optimization: { removeCache: true } } } },
      ['var/cache/app/blob', 'tmp/.left'],
    ],
    [
      'docker_extract.flatten_filesystem',
      { strategy: { dockerExtract: { flattenFilesystem: true } } },
      [],
    ],
    ['suggested_asset_id', { suggestedAssetId: 'asset_01J8' }, []],
  ];

interface Running {
  readonly service: ExecutorService;
  readonly api: ApiHarness;
  readonly token: string;
  readonly scratch: string;
  /** What the executor has asked of its converter. */
  readonly calls: readonly ConvertCall[];
}

suite('the fields of a BuildConfig that choose files and limits', () => {
  const stack = new AsyncDisposableStack();
  let running: Running;
  before(async () => {
    const scratch = await mkdtemp(join(tmpdir(), 'rpc-fields-'));
    stack.defer(() => rm(scratch, { recursive: true, force: true }));
    const service = stack.use(await openExecutorService(openTestSqlite));
    const files = NAMES.map((name) => ({ name, content: `content of ${name}\n` }));
    await service.images.add(REFERENCE, { layers: [tarOf(files)] });
    const api = stack.use(
      await startTestApi({
        database: service.database,
        artifacts: service.artifacts,
        extensions: [rpcExtension(silentLog)],
      }),
    );
    const { token } = await api.tenant('acme');
    const calls: ConvertCall[] = [];
    const { converter } = service.options();
    stack.use(
      service.start({
        converter: {
          convert(job, call) {
            calls.push(call);
            return converter.convert(job, call);
          },
        },
      }),
    );
    running = { service, api, token, scratch, calls };
  });
  after(() => stack.disposeAsync());

  for (const packageName of ['builder.v1', 'deploy.builderd.v1'] as const) {
    for (const [what, fields, gone] of CASES) {
      test(`${packageName}: ${what}`, async () => {
        using client = grpcCaller(running.api.port, packageName);
        const { build, files } = await built(running, client, fields);
        assert.deepEqual(files, NAMES.filter((name) => !gone.includes(name)).toSorted());
        assertEchoed(build['config'], fields);
      });
    }
  }

  // That the worker keeps to them: test/integration/worker-converter.test.ts.
  test('max_disk_bytes and max_memory_bytes bound this one build, and never raise its tenant’s', async () => {
    using client = grpcCaller(running.api.port, 'builder.v1');
    const answer = await client.unary('GetTenantQuotas', { tenantId: 'acme' }, running.token);
    const quotas = answer['currentLimits'];
    const numberOf = (key: string) => Number(stringMember(quotas, key));
    const [mostDisk, mostMemory] = [numberOf('maxDiskBytes'), numberOf('maxMemoryBytes')];
    for (const [limits, disk, heap] of [
      [{}, mostDisk, mostMemory],
      [{ maxDiskBytes: 2 ** 21, maxMemoryBytes: 2 ** 28 }, 2 ** 21, 2 ** 28],
      [{ maxDiskBytes: 2 ** 49, maxMemoryBytes: 2 ** 49 }, mostDisk, mostMemory],
    ] as const) {
      const { buildId } = await ended(running, client, { limits });
      const call = running.calls.at(-1);
      assert.deepEqual([call?.maxArtifactBytes, call?.maxHeapBytes], [disk, heap]);
      const { memoryBytes } = await running.service.build(parseBuildId(String(buildId)));
      assert.ok(memoryBytes <= heap, `${memoryBytes} bytes are reserved`);
    }
  });

  test('a repeat with another filter is another request', async () => {
    const post = (excludePatterns: readonly string[]) =>
      running.api.fetch('/builder.v1.BuilderService/CreateBuild', {
        method: 'POST',
        token: running.token,
        json: { config: configOf({ strategy: { dockerExtract: { excludePatterns } } }) },
        headers: { 'idempotency-key': 'one' },
      });
    const idOf = async (answer: Response) =>
      stringMember(JSON.parse(await answer.text()), 'buildId');
    assert.equal(await idOf(await post(['app'])), await idOf(await post(['app'])));
    const other = await post(['etc']);
    assert.equal(other.ok, false);
    assert.match(await other.text(), /idempotency key was used for another request/);
  });

  test('the same filter gives the same bytes, in whatever order and field it is written', async () => {
    using client = grpcCaller(running.api.port, 'builder.v1');
    const first = await ended(running, client, {
      strategy: { dockerExtract: { excludePatterns: ['etc', 'app/*.log'] } },
    });
    const second = await ended(running, client, {
      target: { microvmRootfs: { optimization: { excludePatterns: ['app/*.log', 'etc'] } } },
    });
    const third = await ended(running, client, {
      strategy: { dockerExtract: { excludePatterns: ['etc'] } },
    });
    assert.equal(second['rootfsChecksum'], first['rootfsChecksum']);
    assert.notEqual(third['rootfsChecksum'], first['rootfsChecksum']);
  });

  test('runtime_config is what the guest runs, and the image stays what it is', async () => {
    using client = grpcCaller(running.api.port, 'builder.v1');
    const runtimeConfig = {
      command: ['-c', 'true'],
      entrypoint: ['/bin/sh'],
      workingDir: '/srv',
      environment: { http_proxy: 'a', HTTP_PROXY: 'b' },
      exposedPorts: ['80', '53/udp'],
    };
    const build = await ended(running, client, { target: { microvmRootfs: { runtimeConfig } } });
    assert.equal(build['state'], 'BUILD_STATE_COMPLETED');
    assertEchoed(build['config'], { target: { microvmRootfs: { runtimeConfig } } });
    const plain = await ended(running, client, {});
    assert.deepEqual(build['imageMetadata'], plain['imageMetadata']);
    assert.notEqual(build['rootfsChecksum'], plain['rootfsChecksum']);
    const answer = await running.api.fetch(
      `/v1/builds/${String(build['buildId'])}/artifacts/metadata.json`,
      { token: running.token },
    );
    const metadata = JSON.parse(await answer.text()) as Record<string, unknown>;
    assert.deepEqual(
      ['command', 'entrypoint', 'working_dir', 'exposed_ports'].map((key) => metadata[key]),
      [['-c', 'true'], ['/bin/sh'], '/srv', ['53/udp', '80/tcp']],
    );
  });

  test('REST takes a runtime, and shows it in the messages', async () => {
    using client = grpcCaller(running.api.port, 'builder.v1');
    const runtime = { command: ['x'], env: { http_proxy: 'a', HTTP_PROXY: 'b' } };
    const buildId = await running.api.build(running.token, {
      source: { image: { reference: REFERENCE } },
      target: { runtime },
    });
    const answer = await running.api.fetch(`/v1/builds/${buildId}`, { token: running.token });
    const shown = JSON.parse(await answer.text()) as { spec: Record<string, unknown> };
    assert.deepEqual(shown.spec['target'], { runtime });
    const { build } = await client.unary('GetBuild', { buildId }, running.token);
    assertEchoed((build as Record<string, unknown>)['config'], {
      target: {
        microvmRootfs: { runtimeConfig: { command: ['x'], environment: runtime.env } },
      },
    });
  });

  test('a build from REST shows its filter and its limits in the messages', async () => {
    using client = grpcCaller(running.api.port, 'builder.v1');
    const target = { exclude: ['etc'], preserve: ['etc/motd'], removeDocs: true };
    const limits = { maxMemoryBytes: 2 ** 28 };
    const buildId = await running.api.build(running.token, {
      source: { image: { reference: REFERENCE } },
      target,
      limits,
    });
    const answer = await running.api.fetch(`/v1/builds/${buildId}`, { token: running.token });
    const shown = JSON.parse(await answer.text()) as { spec: Record<string, unknown> };
    assert.deepEqual([shown.spec['target'], shown.spec['limits']], [target, limits]);
    const { build } = await client.unary('GetBuild', { buildId }, running.token);
    assertEchoed((build as Record<string, unknown>)['config'], {
      target: {
        microvmRootfs: {
          optimization: {
            excludePatterns: ['etc'],
            preservePaths: ['etc/motd'],
            removeDocs: true,
          },
        },
      },
      limits: { maxMemoryBytes: String(2 ** 28) },
    });
  });
});

function configOf(fields: Readonly<Record<string, unknown>>): object {
  return {
    tenant: { tenantId: 'acme' },
    source: { dockerImage: { imageUri: REFERENCE } },
    target: { microvmRootfs: {} },
    strategy: { dockerExtract: {} },
    ...fields,
  };
}

async function create(
  { token }: Running,
  client: GrpcCaller,
  fields: Readonly<Record<string, unknown>>,
): Promise<string> {
  const made = await client.unary('CreateBuild', { config: configOf(fields) }, token);
  return String(made['buildId']);
}

async function ended(
  running: Running,
  client: GrpcCaller,
  fields: Readonly<Record<string, unknown>>,
): Promise<Record<string, unknown>> {
  const buildId = await create(running, client, fields);
  await running.service.until(parseBuildId(buildId));
  const { build } = await client.unary('GetBuild', { buildId }, running.token);
  return build as Record<string, unknown>;
}

/** A build of these fields, and the names of the files on its disk that came from the image. */
async function built(
  running: Running,
  client: GrpcCaller,
  fields: Readonly<Record<string, unknown>>,
): Promise<{ readonly build: Record<string, unknown>; readonly files: readonly string[] }> {
  const build = await ended(running, client, fields);
  assert.equal(build['state'], 'BUILD_STATE_COMPLETED', String(build['errorMessage']));
  const { service, scratch } = running;
  const { tenantId } = await service.build(parseBuildId(String(build['buildId'])));
  const digest = parseDigest(`sha256:${String(build['rootfsChecksum'])}`);
  const blob = await requireBlob(service.database, tenantId, digest);
  const signal = AbortSignal.timeout(60_000);
  const disk = join(scratch, `${String(build['buildId'])}.ext4`);
  await writeFile(disk, await buffer(await service.artifacts.open(tenantId, blob, { signal })));
  await runProgram('e2fsck', ['-f', '-n', disk]);
  const files: string[] = [];
  for (const name of NAMES) {
    const content = await runProgram('debugfs', ['-R', `cat /${name}`, disk]);
    if (content === `content of ${name}\n`) files.push(name);
  }
  return { build, files: files.toSorted() };
}

/** Whether an answer holds everything that was asked for. */
function assertEchoed(answer: unknown, asked: unknown, path = 'config'): void {
  if (typeof asked !== 'object' || asked === null || Array.isArray(asked)) {
    assert.deepEqual(answer, asked, path);
    return;
  }
  for (const [key, value] of Object.entries(asked)) {
    assert.ok(typeof answer === 'object' && answer !== null, path);
    assertEchoed(Reflect.get(answer, key), value, `${path}.${key}`);
  }
}
