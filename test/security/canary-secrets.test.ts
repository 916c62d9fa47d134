import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { errnoOf } from '../../src/core/errors.ts';
import { stringMember } from '../fixtures/api.ts';
import { startTestContainerd } from '../fixtures/containerd.ts';
import { type OtlpReceiver, startHttpReceiver } from '../fixtures/otlp-receiver.ts';
import { makeImage } from '../fixtures/registry-images.ts';
import { startTestRegistry, type TestRegistry } from '../fixtures/registry-server.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { tarOf } from '../fixtures/small-tar.ts';

const MARK = `canary${randomBytes(6).toString('hex')}`;
const MASTER_KEY = randomBytes(32).toString('base64');
const skip = process.getuid?.() === 0 ? false : 'host lacks root';

/** What each party is given to keep. None may come out where it was not sent. */
const SECRETS = {
  databasePassword: `${MARK}-database`,
  objectStore: `${MARK}-s3`,
  collector: `${MARK}-otel`,
  keptPassword: `${MARK}-kept`,
  buildPassword: `${MARK}-build`,
  registryToken: `${MARK}-bearer`,
};
/** Shown to the tenant, who gave it, and to nobody else. */
const WEBHOOK_PATH = `hook${randomBytes(6).toString('hex')}`;

/** A registry that wants a login, gives a token for it, and echoes it when it refuses. */
function wantLogin(registry: TestRegistry): void {
  registry.intercept((request, response) => {
    const { authorization = '' } = request.headers;
    if (request.path === '/token') {
      response.end(JSON.stringify({ token: SECRETS.registryToken }));
      return true;
    }
    if (request.path.startsWith('/v2/team/broken') && authorization !== '') {
      response.writeHead(403, { 'content-type': 'application/json' });
      const message = `no access with ${authorization}`;
      response.end(JSON.stringify({ errors: [{ code: 'DENIED', message }] }));
      return true;
    }
    if (authorization === `Bearer ${SECRETS.registryToken}`) return false;
    const realm = `http://${registry.host}/token`;
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` });
    response.end();
    return true;
  });
}

interface Whole extends AsyncDisposable {
  readonly service: RunningService;
  readonly registry: TestRegistry;
  readonly collector: OtlpReceiver;
}

async function startWhole(): Promise<Whole> {
  await using undo = new AsyncDisposableStack();
  const containerd = undo.use(await startTestContainerd());
  const registry = undo.use(await startTestRegistry());
  const collector = undo.use(await startHttpReceiver());
  registry.publish(
    'team/app',
    'v1',
    makeImage({ layers: [tarOf([{ name: 'bin/app', content: 'program', mode: 0o755 }])] }),
  );
  wantLogin(registry);
  const service = undo.use(
    await RunningService.start({
      settings: {
        CONTAINERD_ADDRESS: containerd.daemon.address,
        EGRESS_ALLOW: registry.host,
        LOG_LEVEL: 'debug',
        TENANT_DEFAULT_TIER: 'pro',
        MASTER_KEY,
        DATABASE_PASSWORD: SECRETS.databasePassword,
        S3_SECRET_ACCESS_KEY: SECRETS.objectStore,
        OTEL_ENABLED: 'true',
        OTEL_ENDPOINT: collector.address,
      },
      environment: {
        OTEL_EXPORTER_OTLP_HEADERS: `x-api-key=${SECRETS.collector}`,
        OTEL_METRIC_EXPORT_INTERVAL: '1000',
      },
    }),
  );
  const kept = undo.move();
  return { service, registry, collector, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

class Session {
  readonly answers: string[] = [];
  readonly #service: RunningService;
  readonly #token: string;

  constructor(service: RunningService, token: string) {
    this.#service = service;
    this.#token = token;
  }

  async call(method: string, route: string, json?: unknown): Promise<unknown> {
    const answer = await fetch(`${this.#service.apiUrl}${route}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        'x-tenant-id': 'acme',
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
    const text = await answer.text();
    this.answers.push([...answer.headers].join('\n'), text);
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }

  /** Its state once it is over, and its id. */
  async build(source: object): Promise<readonly [state: string, id: string]> {
    const id = stringMember(await this.call('POST', '/v1/builds', { source }), 'id');
    let state = '';
    await this.#service.until(async () => {
      state = stringMember(await this.call('GET', `/v1/builds/${id}`), 'state');
      return ['completed', 'failed', 'cancelled'].includes(state);
    }, `the end of build ${id}`);
    return [state, id];
  }
}

/** Bytes of every file below, but of those that hold secrets by their purpose. */
async function filesBelow(directory: string): Promise<ReadonlyMap<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const keepers = new Set(['builderd.env', 'operator.token', 'master.key']);
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (!entry.isFile() || keepers.has(entry.name)) continue;
    try {
      files.set(file, await readFile(file));
    } catch (reason) {
      // The service still runs, and removes what it no longer needs.
      if (errnoOf(reason) !== 'ENOENT') throw reason;
    }
  }
  return files;
}

test('H2 and H21: no secret of operator, tenant or build comes out anywhere, whether builds succeed or fail', {
  skip,
}, async () => {
  await using whole = await startWhole();
  const { service, registry, collector } = whole;
  const operatorToken = await service.operatorToken();
  const session = new Session(service, operatorToken);
  await session.call('POST', '/v1/tenants', { name: 'acme', tier: 'pro' });
  const made = await session.call('POST', '/v1/tokens', { name: 'ci', role: 'tenant' });
  const tenantToken = stringMember(made, 'secret');
  session.answers.length = 0;
  await session.call('PUT', '/v1/credentials', {
    kind: 'registry',
    host: registry.host,
    username: 'kept',
    password: SECRETS.keptPassword,
  });
  const hook = await session.call('POST', '/v1/webhooks', {
    url: `https://${registry.host}/${WEBHOOK_PATH}?key=${WEBHOOK_PATH}`,
    events: ['build.completed', 'build.failed'],
  });
  const hookSecret = stringMember(hook, 'secret');
  // Shown once, to whom it is for: the answer is not searched.
  session.answers.length = 0;

  const app = { image: { reference: `${registry.host}/team/app:v1` } };
  const auth = { username: 'own', password: SECRETS.buildPassword };
  const [first, firstId] = await session.build(app);
  assert.equal(first, 'completed', service.output.slice(-4000));
  const own = { image: { ...app.image, auth } };
  assert.equal((await session.build(own))[0], 'completed');
  const broken = { image: { reference: `${registry.host}/team/broken:v1`, auth } };
  const [failed, failedId] = await session.build(broken);
  assert.equal(failed, 'failed');
  const given = registry.seen.map(({ headers }) => headers.authorization ?? '').join('\n');
  const basic = (user: string, password: string): string =>
    Buffer.from(`${user}:${password}`).toString('base64');
  // They were really used: what is searched for below was there to be leaked.
  assert.ok(given.includes(basic('kept', SECRETS.keptPassword)));
  assert.ok(given.includes(basic('own', SECRETS.buildPassword)));
  assert.ok(given.includes(SECRETS.registryToken));
  await service.until(
    () => registry.seen.length > 0 && collector.spans.some(({ name }) => name === 'attempt'),
    'the traces',
  );
  assert.equal(collector.headers.get('x-api-key'), SECRETS.collector);

  for (const route of [
    ...[firstId, failedId].flatMap((id) => [
      `/v1/builds/${id}`,
      `/v1/builds/${id}/logs`,
      `/v1/builds/${id}/artifacts`,
      `/v1/builds/${id}/artifacts/metadata.json`,
      `/v1/builds/${id}/artifacts/fidelity.json`,
      `/builder.v1.BuilderService/GetBuildLogs/${id}`,
    ]),
    '/v1/builds',
    '/v1/credentials',
    '/v1/tokens',
    '/v1/webhooks',
    '/v1/audit',
    '/v1/tenants',
    '/debug/status',
  ]) {
    await session.call('GET', route);
  }
  const processes = [service.pid, service.rolePid('api'), service.rolePid('executor')];
  const shown = await Promise.all(
    processes.map(async (pid) => [
      ...(pid === service.pid ? [] : [await readFile(`/proc/${pid}/environ`, 'latin1')]),
      await readFile(`/proc/${pid}/cmdline`, 'latin1'),
    ]),
  );
  const places = new Map<string, string>([
    ['standard output', service.output],
    ['standard error', service.stderr],
    ['metrics', await service.metrics()],
    ['processes', shown.flat().join('\n')],
    ...session.answers.map((text, n) => [`answer ${n}`, text] as const),
    ...collector.raw.map((bytes, n) => [`trace ${n}`, bytes.toString('latin1')] as const),
    ...Array.from(
      await filesBelow(service.dir),
      ([file, bytes]) => [file, bytes.toString('latin1')] as const,
    ),
  ]);
  assert.ok([...places.keys()].some((name) => name.endsWith('builderd.db')));
  const forbidden = new Map<string, string>([
    ['the mark of all', MARK],
    ['the mark in base64', Buffer.from(`:${MARK}`).toString('base64').slice(2, 20)],
    ['a password as it is sent', basic('kept', SECRETS.keptPassword)],
    ['another one', basic('own', SECRETS.buildPassword)],
    ['the master key', MASTER_KEY],
    ["the operator's token", operatorToken],
    ["the tenant's token", tenantToken],
    ["the webhook's secret", hookSecret],
  ]);
  for (const [name, text] of places) {
    for (const [what, secret] of forbidden) {
      const at = text.indexOf(secret);
      assert.equal(at, -1, `${what} is in ${name}: ${text.slice(Math.max(0, at - 200), at + 60)}`);
    }
  }

  for (const [name, text] of places) {
    if (/^answer|^\//.test(name)) continue;
    assert.ok(!text.includes(WEBHOOK_PATH), `the webhook's path is in ${name}`);
  }

  const known = new Set([
    'builderd.build_id',
    'builderd.tenant',
    'builderd.attempt',
    'builderd.state',
    'builderd.format',
    'builderd.registry',
    'builderd.bytes',
    'builderd.layers',
    'http.request.method',
    'http.route',
    'http.response.status_code',
    'rpc.system',
    'rpc.service',
    'rpc.method',
    'error.type',
  ]);
  const names = new Set(collector.spans.flatMap(({ attributes }) => Object.keys(attributes)));
  assert.ok(names.has('builderd.build_id'));
  assert.deepEqual(
    [...names].filter((name) => !known.has(name)),
    [],
  );
});
