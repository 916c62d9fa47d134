import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session } from 'node:http2';
import { test } from 'node:test';
import { startTestApi } from '../fixtures/api.ts';
import { dialRaw } from '../fixtures/raw-http.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const SETTINGS = frame(4, 0, 0);
/** :method GET, :scheme http, :path /, from the static table. */
const GET_ROOT = Buffer.from([0x82, 0x86, 0x84]);

async function openSession(url: string): Promise<ClientHttp2Session> {
  const session = connect(url);
  session.on('error', () => session.destroy());
  await once(session, 'connect');
  return session;
}

test('G10: a client that opens streams only to reset them loses its session, and the service goes on', async () => {
  await using api = await startTestApi({ limits: { resetBurst: 50, resetsPerSecond: 1 } });
  const session = await openSession(api.url);
  const closed = new Promise<void>((resolve) => {
    session.once('close', resolve);
  });
  for (let n = 0; n < 1000 && !session.destroyed; n += 1) {
    const stream = session.request({ ':path': '/health' });
    stream.on('error', () => undefined);
    stream.close(constants.NGHTTP2_CANCEL);
    if (n % 20 === 0) await new Promise(setImmediate);
  }
  await closed;
  assert.equal((await api.fetch('/health')).status, 200);
});

test('G10: raw floods of CONTINUATION, of windows and of settings end the session', async () => {
  await using api = await startTestApi();
  const floods: [name: string, frames: Buffer][] = [
    [
      'CONTINUATION without end',
      Buffer.concat([
        frame(1, 0, 1, GET_ROOT),
        ...Array.from({ length: 2000 }, () =>
          frame(
            9,
            0,
            1,
            Buffer.concat([Buffer.from([0, 1, 0x61, 0x7f, 0x81, 0x7d]), Buffer.alloc(252, 0x62)]),
          ),
        ),
      ]),
    ],
    [
      'WINDOW_UPDATE overflow',
      Buffer.concat([
        frame(8, 0, 0, Buffer.from([0x7f, 255, 255, 255])),
        frame(8, 0, 0, Buffer.from([0x7f, 255, 255, 255])),
      ]),
    ],
    ['HEADERS on stream 0', frame(1, 5, 0, GET_ROOT)],
    [
      'a frame beyond the frame size',
      Buffer.concat([Buffer.from([0x10, 0, 0, 0, 0, 0, 0, 0, 1]), Buffer.alloc(1024 ** 2)]),
    ],
    ['DATA on an idle stream', frame(0, 1, 7, Buffer.from('x'))],
  ];
  for (const [name, frames] of floods) {
    using connection = await dialRaw(api.port);
    connection.socket.write(Buffer.concat([PREFACE, SETTINGS, frames]));
    await assert.doesNotReject(connection.closed(), name);
  }
  assert.equal((await api.fetch('/health')).status, 200);
});

test('G7 and G10: header lists beyond the limits are refused, on HTTP/2 too', async () => {
  await using api = await startTestApi();
  for (const headers of [
    { 'x-a': 'a'.repeat(40 * 1024) },
    Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`x-${n}`, 'a'])),
  ]) {
    const session = await openSession(api.url);
    const stream = session.request({ ':path': '/health', ...headers });
    const outcome = await new Promise((resolve) => {
      stream.on('response', (answer) => resolve(answer[':status']));
      stream.on('error', (reason) => resolve(reason));
      stream.on('close', () => resolve('closed'));
    });
    session.destroy();
    assert.notEqual(outcome, 200);
  }
});

test('no session may hold more streams than the limit at once', async () => {
  await using api = await startTestApi({ limits: { streamsPerSession: 10 } });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const session = await openSession(api.url);
  if (session.remoteSettings.maxConcurrentStreams !== 10) await once(session, 'remoteSettings');
  assert.equal(session.remoteSettings.maxConcurrentStreams, 10);
  const follow = {
    ':path': `/v1/builds/${id}/logs`,
    authorization: `Bearer ${token}`,
    accept: 'text/event-stream',
  };
  const streams = Array.from({ length: 10 }, () => session.request(follow));
  await Promise.all(streams.map((stream) => once(stream, 'response')));
  for (const stream of streams) {
    stream.on('error', () => undefined);
    stream.close(constants.NGHTTP2_CANCEL);
  }
  await Promise.all(streams.map((stream) => once(stream, 'close')));
  session.destroy();
  assert.equal((await api.fetch('/health')).status, 200);
});

test('G8: bodies that drip and streams that are not read end on HTTP/2 too', async () => {
  await using api = await startTestApi({ limits: { requestMs: 400, stalledMs: 400 } });
  const { token, ref } = await api.tenant('acme');
  const id = await api.build(token);
  await api.artifact(ref, id, 'rootfs.ext4', Buffer.alloc(8 * 1024 ** 2, 1));
  const session = await openSession(api.url);
  const authorization = `Bearer ${token}`;
  const drip = session.request({
    ':method': 'POST',
    ':path': '/v1/builds',
    'content-type': 'application/json',
    authorization,
  });
  drip.on('error', () => undefined);
  const timer = setInterval(() => {
    if (drip.writable) drip.write(' ');
  }, 50);
  const unread = session.request({
    ':path': `/v1/builds/${id}/artifacts/rootfs.ext4`,
    authorization,
  });
  unread.on('error', () => undefined);
  unread.pause();
  try {
    const limit = { signal: AbortSignal.timeout(15_000) };
    await once(drip, 'close', limit);
    const done = (): boolean =>
      api.logged.some(({ fields }) => fields.route === '/v1/builds/:id/artifacts/:name');
    for (let waited = 0; !done() && waited < 15_000; waited += 50)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(done(), 'the unread answer was never given up');
  } finally {
    clearInterval(timer);
    session.destroy();
  }
});

test('a session without streams ends, however many frames it sends; one that is followed stays', async () => {
  await using api = await startTestApi({ limits: { idleMs: 3000 } });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const following = await openSession(api.url);
  const followed = following.request({
    ':path': `/v1/builds/${id}/logs`,
    authorization: `Bearer ${token}`,
    accept: 'text/event-stream',
  });
  await once(followed, 'response');
  const idle = await openSession(api.url);
  const timer = setInterval(() => {
    if (!idle.destroyed) idle.ping(() => undefined);
  }, 50);
  try {
    await once(idle, 'close', { signal: AbortSignal.timeout(30_000) });
    assert.equal(following.destroyed, false);
    assert.equal(followed.closed, false);
  } finally {
    clearInterval(timer);
    following.destroy();
  }
});

test('a stream that its client resets is logged as one whose client left', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const session = await openSession(api.url);
  using stack = new DisposableStack();
  stack.defer(() => session.destroy());
  const stream = session.request({
    ':method': 'POST',
    ':path': '/v1/builds',
    'content-type': 'application/json',
    authorization: `Bearer ${token}`,
  });
  stream.on('error', () => undefined);
  stream.write('{"source":');
  // Its answer on the same session says that the one before has arrived.
  const other = session.request({ ':path': '/health' });
  other.resume();
  await once(other, 'close');
  stream.close(constants.NGHTTP2_CANCEL);
  const noted = () => api.logged.find(({ fields }) => fields.route === '/v1/builds');
  for (let waited = 0; noted() === undefined && waited < 30_000; waited += 20) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal(noted()?.fields.status, 499);
});
