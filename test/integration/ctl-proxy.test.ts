import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startTestApi } from '../fixtures/api.ts';
import { makeCerts } from '../fixtures/registry-certs.ts';
import { ctlUser } from '../fixtures/run-ctl.ts';

interface TunnelProxy extends AsyncDisposable {
  readonly port: number;
  /** `host:port` of each tunnel that was asked for, with the proxy's own login if any. */
  readonly tunnels: readonly string[];
  /** Everything else that was asked. */
  readonly others: readonly string[];
  refuse(status: number): void;
  /** Everything that passed through, as bytes. */
  readonly passed: readonly Buffer[];
}

async function startTunnelProxy(): Promise<TunnelProxy> {
  const [tunnels, others, passed]: [string[], string[], Buffer[]] = [[], [], []];
  let refusal: number | undefined;
  const server = createServer((request, response) => {
    others.push(`${request.method} ${request.url}`);
    response.writeHead(502).end();
  });
  server.on('connect', (request, client) => {
    tunnels.push(`${request.url} ${request.headers['proxy-authorization'] ?? ''}`.trim());
    client.on('error', () => client.destroy());
    if (refusal !== undefined) {
      client.end(`HTTP/1.1 ${refusal} No\r\n\r\n`);
      return;
    }
    const [, port] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      client.on('data', (bytes: Buffer) => passed.push(bytes));
      upstream.on('data', (bytes: Buffer) => passed.push(bytes));
      client.pipe(upstream).pipe(client);
    });
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket) => sockets.add(socket));
  return {
    port: (server.address() as AddressInfo).port,
    tunnels,
    others,
    passed,
    refuse(status) {
      refusal = status;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

test('builderctl goes through HTTPS_PROXY, which sees no token, and past it where NO_PROXY says so', async () => {
  await using undo = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'bd-proxy-'));
  undo.defer(() => rm(dir, { recursive: true, force: true }));
  const certs = await makeCerts(dir);
  const api = undo.use(await startTestApi({ tls: certs }));
  const proxy = undo.use(await startTunnelProxy());
  const { token } = await api.tenant('acme');
  const user = undo.use(
    await ctlUser({
      BUILDERCTL_SERVER: api.url,
      BUILDERCTL_TOKEN: token,
      BUILDERCTL_CA_FILE: certs.caFile,
    }),
  );
  const list = ['builds', 'list', '--json'];
  const through = { env: { HTTPS_PROXY: `http://me:pass@127.0.0.1:${proxy.port}` } };
  const answer = await user.run(list, through);
  assert.equal(answer.code, 0, answer.stderr);
  assert.deepEqual(JSON.parse(answer.stdout), { builds: [], total: 0 });
  const login = `Basic ${Buffer.from('me:pass').toString('base64')}`;
  assert.deepEqual(proxy.tunnels, [`127.0.0.1:${api.port} ${login}`]);
  assert.ok(!Buffer.concat(proxy.passed).includes(token), 'the tunnel is TLS from end to end');

  const before = proxy.tunnels.length;
  const past = { env: { https_proxy: `127.0.0.1:${proxy.port}`, NO_PROXY: 'x.test,127.0.0.1' } };
  assert.equal((await user.run(list, past)).code, 0);
  const empty = { env: { https_proxy: '', HTTPS_PROXY: 'http://127.0.0.1:1' } };
  assert.equal((await user.run(list, empty)).code, 0, 'empty means none');
  assert.equal(proxy.tunnels.length, before);

  // The name in the certificate is still the server's, not the proxy's.
  const other = `https://localhost:${api.port}`;
  const wrong = await user.run([...list, '--server', other], through);
  assert.equal(wrong.code, 3);
  assert.match(wrong.stdout, /its certificate is not trusted \(for another name\)/);

  proxy.refuse(407);
  const refused = await user.run(
    ['builds', 'get', '0198c0de-0000-7000-8000-000000000000'],
    through,
  );
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /the proxy of HTTPS_PROXY did not let it through/);
  const bad = await user.run(list, { env: { HTTPS_PROXY: 'socks5://user:hunter2@h' } });
  assert.equal(bad.code, 2);
  assert.match(bad.stdout, /Cannot use HTTPS_PROXY: want a URL/);
  assert.doesNotMatch(`${bad.stdout}${bad.stderr}${refused.stderr}`, /hunter2|pass@/);
});

test('a token for a server with plain HTTP is given to no proxy, whatever the environment says', async () => {
  await using api = await startTestApi();
  await using proxy = await startTunnelProxy();
  const { token } = await api.tenant('acme');
  await using user = await ctlUser({ BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: token });
  const address = `http://127.0.0.1:${proxy.port}`;
  const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY'];
  const env = Object.fromEntries(names.map((name) => [name, address]));
  assert.equal((await user.run(['builds', 'list'], { env })).code, 0);
  assert.deepEqual([...proxy.tunnels, ...proxy.others], []);
});
