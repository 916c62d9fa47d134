import assert from 'node:assert/strict';
import { connect } from 'node:http2';
import { test } from 'node:test';
import { type ApiHarness, startTestApi } from '../fixtures/api.ts';
import { dialRaw, type RawConnection } from '../fixtures/raw-http.ts';

/** Writes the request of an event stream and never reads the answer. */
async function followBlindly(api: ApiHarness, path: string, token: string): Promise<RawConnection> {
  const connection = await dialRaw(api.port);
  connection.socket.pause();
  connection.socket.write(
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  );
  return connection;
}

/** Tries until the answer has the status, at most a minute. */
async function followUntil(
  api: ApiHarness,
  path: string,
  token: string,
  status: number,
): Promise<Response> {
  for (let tries = 0; ; tries += 1) {
    const answer = await api.fetch(path, { token, headers: { accept: 'text/event-stream' } });
    if (answer.status === status) return answer;
    await answer.body?.cancel();
    assert.ok(tries < 1200, `still ${answer.status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('G17: a thousand followers that never read fill the places, cost little, and the next is refused', async () => {
  await using api = await startTestApi({
    limits: { followersPerTenant: 1000 },
    followers: { perBuild: 200, perTenant: 1000, perProcess: 1000 },
  });
  const { token } = await api.tenant('acme');
  const paths: string[] = [];
  for (let n = 0; n < 5; n += 1) {
    const id = await api.build(token);
    await api.log(
      id,
      Array.from({ length: 100 }, () => 'x'.repeat(1000)),
    );
    paths.push(`/v1/builds/${id}/logs`);
  }
  const before = process.memoryUsage().rss;
  using stack = new DisposableStack();
  for (let n = 0; n < 1000; n += 1) {
    stack.use(await followBlindly(api, paths[n % paths.length] ?? '', token));
  }
  const refused = await followUntil(api, paths[0] ?? '', token, 429);
  assert.ok(Number(refused.headers.get('retry-after')) > 0);
  assert.equal((await api.fetch('/health')).status, 200);
  // Both ends of a thousand connections are in this process.
  const grown = process.memoryUsage().rss - before;
  assert.ok(grown < 400 * 1024 ** 2, `${Math.round(grown / 1024 ** 2)} MiB`);
  stack.dispose();
  const again = await followUntil(api, paths[0] ?? '', token, 200);
  await again.body?.cancel();
});

test('G17: followers that stop reading are cut off and give their places back', async () => {
  await using api = await startTestApi({
    limits: { stalledMs: 1000 },
    followers: { perBuild: 20, perTenant: 100, perProcess: 1000 },
  });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  await api.log(
    id,
    Array.from({ length: 100 }, () => 'x'.repeat(10_000)),
  );
  const path = `/v1/builds/${id}/logs`;
  // HTTP/2 has a window of its own, far smaller than what two kernels take of a connection.
  const session = connect(api.url);
  using stack = new DisposableStack();
  stack.defer(() => session.destroy());
  for (let n = 0; n < 20; n += 1) {
    const stream = session.request({
      ':path': path,
      accept: 'text/event-stream',
      authorization: `Bearer ${token}`,
    });
    stream.on('error', () => undefined);
    stream.pause();
  }
  const cut = (): number =>
    api.logged.filter(
      ({ fields }) => fields.route === '/v1/builds/:id/logs' && fields.status === 499,
    ).length;
  for (let waited = 0; cut() < 20 && waited < 20_000; waited += 50) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(cut(), 20);
  const again = await followUntil(api, path, token, 200);
  await again.body?.cancel();
});

test('G17: one tenant can hold its share of streams and downloads, and not that of others', async () => {
  await using api = await startTestApi({
    limits: { followersPerTenant: 1, downloadsPerTenant: 1 },
  });
  const [acme, other] = [await api.tenant('acme'), await api.tenant('other')];
  const id = await api.build(acme.token);
  await api.log(id, ['x']);
  const follow = (token: string) =>
    api.fetch('/v1/events', { token, headers: { accept: 'text/event-stream' } });
  const first = await follow(acme.token);
  const refused = [
    await follow(acme.token),
    await api.fetch(`/v1/builds/${id}/logs`, {
      token: acme.token,
      headers: { accept: 'text/plain' },
    }),
  ];
  assert.deepEqual(
    [first, ...refused].map(({ status }) => status),
    [200, 429, 429],
  );
  const theirs = await follow(other.token);
  assert.equal(theirs.status, 200);

  await api.artifact(acme.ref, id, 'rootfs.ext4', Buffer.alloc(64 << 20));
  const path = `/v1/builds/${id}/artifacts/rootfs.ext4`;
  const slow = await api.fetch(path, { token: acme.token });
  assert.equal(slow.status, 200);
  assert.equal((await api.fetch(path, { token: acme.token })).status, 429);
  await slow.body?.cancel();
  await first.body?.cancel();
  await theirs.body?.cancel();
  for (let tries = 0; ; tries += 1) {
    const again = await api.fetch(path, { token: acme.token });
    await again.body?.cancel();
    if (again.status === 200) break;
    assert.ok(tries < 1200, 'the place was not given back');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test('G17: streams of one process are counted over logs and events, and given back', async () => {
  await using api = await startTestApi({ limits: { followers: 2 } });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const headers = { accept: 'text/event-stream' };
  const log = await api.fetch(`/v1/builds/${id}/logs`, { token, headers });
  const events = await api.fetch('/v1/events', { token, headers });
  assert.deepEqual([log.status, events.status], [200, 200]);
  assert.equal((await api.fetch('/v1/events', { token, headers })).status, 429);
  assert.equal((await api.fetch(`/v1/builds/${id}/logs`, { token, headers })).status, 429);
  await log.body?.cancel();
  await events.body?.cancel();
  for (let tries = 0; ; tries += 1) {
    const again = await api.fetch('/v1/events', { token, headers });
    await again.body?.cancel();
    if (again.status === 200) break;
    assert.ok(tries < 1200, 'the places never came back');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
