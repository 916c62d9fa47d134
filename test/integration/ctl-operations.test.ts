import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, request as forward } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCtl } from '../../src/cli/ctl/ctl-program.ts';
import { type ApiHarness, startTestApi } from '../fixtures/api.ts';

interface Recorder extends AsyncDisposable {
  readonly url: string;
  /** `METHOD path` of every request, without its query. */
  readonly seen: string[];
}

async function startRecorder(port: number): Promise<Recorder> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    const { method, url = '/', headers } = request;
    seen.push(`${method} ${url.split('?', 1)[0]}`);
    const onward = forward({ host: '127.0.0.1', port, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

interface World {
  readonly api: ApiHarness;
  readonly recorder: Recorder;
  readonly home: string;
  /** Ids of things that the commands are about. */
  readonly words: ReadonlyMap<string, string>;
}

/** In this process: what is asked is of interest, not how a process starts. */
async function run(world: World, args: readonly string[], token: string): Promise<string> {
  const output = { stdout: '', stderr: '' };
  const code = await runCtl([...args], {
    stdout: { write: (text) => (output.stdout += text) },
    stderr: { write: (text) => (output.stderr += text) },
    signal: AbortSignal.timeout(60_000),
    atExit: () => undefined,
    env: {
      BUILDERCTL_SERVER: world.recorder.url,
      BUILDERCTL_TOKEN: token,
      BUILDERCTL_TENANT: 'acme',
    },
    homeDirectory: world.home,
    userId: process.getuid?.() ?? -1,
    readStdin: async () => 'secret',
    writeBytes: async (bytes) => void (output.stdout += Buffer.from(bytes).toString()),
    nowMs: () => Date.now(),
    random: () => 0.5,
  });
  assert.equal(code, 0, `${args.join(' ')}: ${output.stderr}`);
  return output.stdout;
}

type Command = readonly [operationId: string, words: string, as?: 'operator'];
/** What to type for each operation; words in capitals stand for ids. In this order. */
const COMMANDS: readonly Command[] = [
  ['createBuild', 'build debian:12'],
  ['listBuilds', 'builds list'],
  ['getBuild', 'builds get BUILD'],
  ['getBuildLog', 'logs BUILD'],
  ['listArtifacts', 'artifacts list BUILD'],
  ['getArtifact', 'artifacts get BUILD rootfs.ext4 -o -'],
  ['cancelBuild', 'builds cancel BUILD'],
  ['deleteBuild', 'builds delete BUILD'],
  ['getStats', 'stats'],
  ['getQuotas', 'quota get'],
  ['getUsage', 'usage'],
  ['listUsageDays', 'usage --from 2026-11-01 --to 2026-11-02'],
  ['listViolations', 'violations'],
  ['listTokens', 'token list'],
  ['createToken', 'token create --name made-here --show-secret'],
  ['revokeToken', 'token revoke TOKEN'],
  ['putCredential', 'credentials set ghcr.io --username ci --password-stdin'],
  ['listCredentials', 'credentials list'],
  ['deleteCredential', 'credentials delete CREDENTIAL'],
  ['listEvents', 'events'],
  ['createWebhook', 'webhooks create https://ci.example.com/hook --show-secret'],
  ['listWebhooks', 'webhooks list'],
  ['enableWebhook', 'webhooks enable WEBHOOK'],
  ['deleteWebhook', 'webhooks delete WEBHOOK'],
  ['listTenants', 'tenants list', 'operator'],
  ['createTenant', 'tenants create beta', 'operator'],
  ['getTenant', 'tenants get acme', 'operator'],
  ['updateTenant', 'tenants update acme --tier pro', 'operator'],
  ['listAudit', 'audit', 'operator'],
  ['health', 'health', 'operator'],
  ['ready', 'health', 'operator'],
];

/** Operations that no command needs, and why. */
const EXCEPTIONS = new Map([
  ['getBuildLogs1', 'the older name of the log'],
  ['getBuildLogs2', 'the older name of the log'],
  ['getArtifact-head', 'the list says what a HEAD would'],
  ['updateQuotas', '`quota set` names its tenant in the path: updateTenant'],
]);

async function operationsOf(api: ApiHarness): Promise<ReadonlyMap<string, string>> {
  const answer = await api.fetch('/v1/openapi.json');
  const { paths } = (await answer.json()) as {
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  return new Map(
    Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId }]): [string, string] => [
        operationId,
        `${method.toUpperCase()} ${path}`,
      ]),
    ),
  );
}

/** `GET /v1/builds/{id}` as a pattern for what was asked. */
function patternOf(operation: string): RegExp {
  const escaped = operation.replaceAll(/[.*+?^$()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll(/\{\w+\}/g, '[^/]+')}$`);
}

test('builderctl has a command for every operation of the API, and it asks for that operation', async () => {
  await using undo = new AsyncDisposableStack();
  const api = undo.use(await startTestApi());
  const recorder = undo.use(await startRecorder(api.port));
  const home = await mkdtemp(join(tmpdir(), 'bd-operations-'));
  undo.defer(() => rm(home, { recursive: true, force: true }));
  const operations = await operationsOf(api);
  const covered = [...COMMANDS.map(([id]) => id), ...EXCEPTIONS.keys()];
  assert.deepEqual(
    [...operations.keys()].toSorted(),
    covered.toSorted(),
    'each operation has a command or a reason',
  );

  const { token, ref } = await api.tenant('acme');
  const words = new Map<string, string>();
  const world: World = { api, recorder, home, words };
  const build = await api.build(token);
  words.set('BUILD', build);
  await api.artifact(ref, build, 'rootfs.ext4', Buffer.from('disk'));
  await api.log(build, ['hello']);
  const idIn = async (list: string, key: string): Promise<string> => {
    const document: unknown = JSON.parse(await run(world, [...list.split(' '), '--json'], token));
    const all = Reflect.get(document as object, key) as readonly { id: string; name?: string }[];
    // The token that we call with is in the list as well.
    return all.find(({ name = 'made-here' }) => name === 'made-here')?.id ?? 'none';
  };
  const prepare = new Map<string, () => Promise<void>>([
    ['revokeToken', async () => void words.set('TOKEN', await idIn('token list', 'tokens'))],
    [
      'deleteCredential',
      async () => void words.set('CREDENTIAL', await idIn('credentials list', 'credentials')),
    ],
    [
      'enableWebhook',
      async () => void words.set('WEBHOOK', await idIn('webhooks list', 'webhooks')),
    ],
    // A running build is not deleted without force.
    ['deleteBuild', () => api.end(build)],
  ]);
  for (const [operationId, line, as] of COMMANDS) {
    await prepare.get(operationId)?.();
    recorder.seen.length = 0;
    const args = line.split(' ').map((word) => words.get(word) ?? word);
    await run(world, args, as === 'operator' ? api.operator : token);
    const wanted = patternOf(operations.get(operationId) ?? 'none');
    assert.ok(
      recorder.seen.some((each) => wanted.test(each)),
      `${line}: ${recorder.seen.join(', ')}, want ${operationId}`,
    );
  }
});
