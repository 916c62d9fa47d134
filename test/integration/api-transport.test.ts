import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:http2';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { createApi } from '../../src/api/api.ts';
import { HEALTHY, startTestApi } from '../fixtures/api.ts';
import { curl } from '../fixtures/curl.ts';
import { silentLog } from '../fixtures/databases.ts';
import { makeCerts } from '../fixtures/registry-certs.ts';

async function privateCerts(
  stack: AsyncDisposableStack,
  name: string,
): ReturnType<typeof makeCerts> {
  const directory = await mkdtemp(join(tmpdir(), `bd-${name}-`));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  return makeCerts(directory);
}

test('one port speaks HTTP/1.1, with keep-alive, and HTTP/2 by prior knowledge', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const url = `${api.url}/v1/builds`;
  const auth = ['-H', `Authorization: Bearer ${token}`];
  const spec = [
    '-H',
    'Content-Type: application/json',
    '-d',
    '{"source":{"image":{"reference":"a"}}}',
  ];
  for (const [flags, version] of [
    [['--http1.1'], '1.1'],
    [['--http2-prior-knowledge'], '2'],
    [['--http2'], '1.1'],
  ] as const) {
    assert.deepEqual([(await curl(...flags, `${api.url}/health`)).version], [version]);
    const made = await curl(...flags, ...auth, ...spec, url);
    assert.deepEqual([made.status, made.version], [202, version], made.body);
    assert.equal((await curl(...flags, ...auth, url)).status, 200);
  }
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number | undefined>();
  for (let n = 0; n < 3; n += 1) {
    const request = httpRequest(`${api.url}/health`, { agent }).end();
    const [answer] = await once(request, 'response');
    ports.add(request.socket?.localPort);
    assert.equal(await text(answer), 'ok\n');
  }
  agent.destroy();
  assert.equal(ports.size, 1);
});

test('bytes that come one by one are still told apart, and 100 streams share one connection', async () => {
  await using api = await startTestApi();
  const session = connect(api.url);
  const answers = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const stream = session.request({ ':path': '/health' });
      const [headers] = await once(stream, 'response');
      return [headers[':status'], await text(stream)];
    }),
  );
  session.destroy();
  assert.ok(answers.every(([status, body]) => status === 200 && body === 'ok\n'));
  const { connect: dial } = await import('node:net');
  const socket = dial(api.port, '127.0.0.1');
  for (const char of 'POST /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n') {
    socket.write(char);
    await new Promise(setImmediate);
  }
  assert.match(await text(socket), /^HTTP\/1\.1 404 /);
});

test('with TLS there is only TLS: ALPN chooses, cleartext is refused, certificates are reloaded', async () => {
  await using stack = new AsyncDisposableStack();
  const [first, second] = [await privateCerts(stack, 'tls-a'), await privateCerts(stack, 'tls-b')];
  await using api = await startTestApi({ tls: first });
  assert.match(api.url, /^https:/);
  const url = `${api.url}/health`;
  assert.equal((await curl('--cacert', first.caFile, url)).version, '2');
  const plain = await curl('--cacert', first.caFile, '--http1.1', url);
  assert.equal(plain.version, '1.1');
  assert.match(plain.headers.get('strict-transport-security') ?? '', /max-age/);
  await assert.rejects(curl(url.replace('https:', 'http:')));
  await assert.rejects(curl('--cacert', second.caFile, url));
  await assert.rejects(curl('--cacert', first.caFile, '--tls-max', '1.1', url));

  api.api.reloadTls(second);
  assert.equal((await curl('--cacert', second.caFile, url)).status, 200);
  await assert.rejects(curl('--cacert', first.caFile, url));
  assert.throws(() => api.api.reloadTls({ cert: first.cert, key: second.key }), {
    code: 'config.invalid',
  });
  assert.equal((await curl('--cacert', second.caFile, url)).status, 200);
});

test('with a client authority, only clients that it signed come in', async () => {
  await using stack = new AsyncDisposableStack();
  const [ours, theirs] = [await privateCerts(stack, 'mtls-a'), await privateCerts(stack, 'mtls-b')];
  await using api = await startTestApi({ tls: { ...ours, clientCa: ours.ca } });
  const url = `${api.url}/health`;
  const as = (certs: typeof ours): string[] => ['--cert', certs.certFile, '--key', certs.keyFile];
  for (const flags of [['--http1.1'], ['--http2']]) {
    assert.equal((await curl(...flags, '--cacert', ours.caFile, ...as(ours), url)).status, 200);
    await assert.rejects(curl(...flags, '--cacert', ours.caFile, url));
    await assert.rejects(curl(...flags, '--cacert', ours.caFile, ...as(theirs), url));
  }
});

test('createApi() refuses development mode on an address that others reach, and bad proxies', async () => {
  await using api = await startTestApi();
  const options = {
    port: 0,
    builds: api.harness.service,
    tenants: api.services.tenants,
    events: api.services.events,
    health: HEALTHY,
    log: silentLog,
    version: 'test',
  };
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'builderd.example.com']) {
    await assert.rejects(
      createApi({ ...options, host, auth: { mode: 'development' } }),
      { code: 'config.invalid' },
      host,
    );
  }
  for (const proxy of ['10.0.0.0/33', 'lb.example.com', '']) {
    await assert.rejects(
      createApi({ ...options, host: '0.0.0.0', auth: { mode: 'tokens' }, trustedProxies: [proxy] }),
      { code: 'config.invalid' },
      proxy,
    );
  }
});

test('development mode needs no token, says so, makes tenants, and is no service behind a proxy', async () => {
  await using api = await startTestApi({ auth: { mode: 'development' }, createMissing: true });
  const id = await api.build('ignored-token');
  const read = await api.fetch(`/v1/builds/${id}`);
  assert.match(read.headers.get('x-builderd-mode') ?? '', /no authentication/);
  assert.equal(((await read.json()) as { tenant: string }).tenant, 'default');
  const other = await api.fetch('/v1/builds', { headers: { 'x-tenant-id': 'tenant-123' } });
  assert.equal(other.status, 200);
  assert.ok(
    api.logged.some(({ level, message }) => level === 'warn' && /Development mode/.test(message)),
  );
  const forwarded = await api.fetch('/v1/builds', {
    headers: { 'x-forwarded-for': '203.0.113.9' },
  });
  assert.equal(forwarded.status, 403);
});

test('/health follows the phase, /health/ready the problems, both without a token', async () => {
  let phase: 'starting' | 'serving' | 'draining' = 'starting';
  let problems: string[] = ['no executor is alive'];
  let now = 0;
  await using api = await startTestApi({
    health: {
      phase: () => phase,
      problems: async () => problems,
      status: async () => ({ secret: 'inner' }),
    },
    nowMs: () => now,
  });
  const ask = async (path: string): Promise<[number, string]> => {
    now += 2000;
    const answer = await api.fetch(path);
    return [answer.status, await answer.text()];
  };
  assert.deepEqual(await ask('/health'), [503, 'starting\n']);
  phase = 'serving';
  assert.deepEqual(await ask('/health'), [200, 'ok\n']);
  assert.deepEqual(await ask('/health/ready'), [503, 'unready\n']);
  problems = [];
  assert.deepEqual(await ask('/health/ready'), [200, 'ready\n']);
  phase = 'draining';
  assert.deepEqual(await ask('/health'), [503, 'draining\n']);
  assert.deepEqual(await ask('/health/ready'), [503, 'unready\n']);
  assert.equal((await api.fetch('/debug/status')).status, 401);
  const { token } = await api.tenant('acme');
  assert.equal((await api.fetch('/debug/status', { token })).status, 403);
  const status = await api.fetch('/debug/status', { token: api.operator });
  assert.deepEqual(await status.json(), { secret: 'inner' });
});

test('close() lets a running answer finish and ends streams', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const follow = await api.fetch(`/v1/builds/${id}/logs`, {
    token,
    headers: { accept: 'text/event-stream' },
  });
  assert.equal(follow.status, 200);
  const body = follow.text();
  await api.api.close({ graceMs: 20_000 });
  // Ended, not cut; and without the event that tells a reader not to come back.
  assert.doesNotMatch(await body, /event: end/);
  await assert.rejects(api.fetch('/health'));
});
