import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTestApi } from '../fixtures/api.ts';
import { dialRaw, sendRaw } from '../fixtures/raw-http.ts';

const HOST = 'Host: localhost';

test('G9: requests that two parsers could read differently are refused and the connection is closed', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const auth = `Authorization: Bearer ${token}`;
  const inner = `GET /v1/builds HTTP/1.1\r\n${HOST}\r\n${auth}\r\n\r\n`;
  const head = (...lines: string[]): string =>
    [
      'POST /v1/builds HTTP/1.1',
      HOST,
      auth,
      'Content-Type: application/json',
      ...lines,
      '',
      '',
    ].join('\r\n');
  const smuggled: [name: string, bytes: string | Buffer][] = [
    [
      'CL and TE',
      `${head(`Content-Length: ${inner.length + 5}`, 'Transfer-Encoding: chunked')}0\r\n\r\n${inner}`,
    ],
    ['TE and CL', `${head('Transfer-Encoding: chunked', 'Content-Length: 3')}0\r\n\r\n${inner}`],
    ['two lengths', `${head('Content-Length: 2', 'Content-Length: 40')}{}${inner}`],
    ['a list of lengths', `${head('Content-Length: 2, 40')}{}${inner}`],
    ['a negative length', `${head('Content-Length: -1')}{}`],
    ['a length with a sign', `${head('Content-Length: +2')}{}`],
    ['a hexadecimal length', `${head('Content-Length: 0x2')}{}`],
    ['an unknown coding', `${head('Transfer-Encoding: xchunked')}0\r\n\r\n`],
    ['chunked not last', `${head('Transfer-Encoding: chunked, identity')}0\r\n\r\n`],
    ['a bad chunk size', `${head('Transfer-Encoding: chunked')}zz\r\n{}\r\n0\r\n\r\n`],
    ['a huge chunk size', `${head('Transfer-Encoding: chunked')}ffffffffffffffffff\r\n{}`],
    ['a chunk longer than it says', `${head('Transfer-Encoding: chunked')}1\r\n{}\r\n0\r\n\r\n`],
    ['obs-fold', head('X-A: b\r\n folded: c', 'Content-Length: 0')],
    ['a blank before the colon', head('Content-Length : 2')],
    ['a bare CR', head('X-A: b\rContent-Length: 2')],
    ['a bare LF', `POST /v1/builds HTTP/1.1\n${HOST}\n\n`],
    ['a NUL', head('X-A: a\0b')],
    ['no host', `GET /v1/builds HTTP/1.1\r\n${auth}\r\n\r\n`],
    ['two hosts', `GET /health HTTP/1.1\r\n${HOST}\r\nHost: other\r\nConnection: close\r\n\r\n`],
    ['two tokens', head(auth, 'Content-Length: 0', 'Connection: close')],
    [
      'two tenants',
      head('X-Tenant-ID: acme', 'X-Tenant-ID: other', 'Content-Length: 0', 'Connection: close'),
    ],
    ['an unknown version', `GET /v1/builds HTTP/9.9\r\n${HOST}\r\n\r\n`],
    ['no HTTP', Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])],
    ['half a preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'],
  ];
  for (const [name, bytes] of smuggled) {
    const answer = await sendRaw(api.port, bytes).catch((reason) =>
      assert.fail(`${name}: ${reason}`),
    );
    // Never two answers, never a success.
    assert.ok((answer.match(/^HTTP\/1\.1 /gm) ?? []).length <= 1, `${name}: ${answer}`);
    assert.doesNotMatch(answer, /^HTTP\/1\.1 2/, `${name}: ${answer}`);
    if (answer !== '') assert.match(answer, /^HTTP\/1\.1 4\d\d /, name);
  }
  assert.equal((await api.fetch('/v1/builds', { token })).status, 200);
});

test('G7: headers, URLs and numbers of fields beyond the limits are refused as such', async () => {
  await using api = await startTestApi();
  const get = (path: string, ...lines: string[]): Promise<string> =>
    sendRaw(
      api.port,
      [`GET ${path} HTTP/1.1`, HOST, 'Connection: close', ...lines, '', ''].join('\r\n'),
    );
  assert.match(
    await get('/health', `X-A: ${'a'.repeat(64 * 1024)}`),
    /^HTTP\/1\.1 431 .*application\/problem\+json/s,
  );
  assert.match(await get(`/${'a'.repeat(1024 ** 2)}`), /^HTTP\/1\.1 4(?:31|14) /);
  assert.match(await get(`/health?${'a'.repeat(9 * 1024)}`), /^HTTP\/1\.1 414 /);
  assert.match(await get('/health', `X-A: ${'a'.repeat(8 * 1024)}`), /^HTTP\/1\.1 200 /);
  for (const path of ['/%zz', '/v1/builds/%', '/v1/builds/%c0%af'])
    assert.match(await get(path), /^HTTP\/1\.1 4\d\d /, path);
});

test('G8: sockets that send nothing, half a header or half a body are closed in time', async () => {
  await using api = await startTestApi({ limits: { headersMs: 300, requestMs: 600 } });
  const { token } = await api.tenant('acme');
  using silent = await dialRaw(api.port);
  using slowHead = await dialRaw(api.port);
  using slowBody = await dialRaw(api.port);
  using halfPreface = await dialRaw(api.port);
  halfPreface.socket.write('PRI * HT');
  slowHead.socket.write(`GET /health HTTP/1.1\r\n${HOST}\r\nX-A: `);
  slowBody.socket.write(
    `POST /v1/builds HTTP/1.1\r\n${HOST}\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
  );
  const drip = setInterval(() => {
    if (slowHead.socket.writable) slowHead.socket.write('a');
    if (slowBody.socket.writable) slowBody.socket.write(' ');
  }, 50);
  try {
    await Promise.all([
      silent.closed(),
      slowHead.closed(),
      slowBody.closed(),
      halfPreface.closed(),
    ]);
  } finally {
    clearInterval(drip);
  }
  assert.equal(silent.bytes(), '');
  assert.match(slowHead.bytes(), /^HTTP\/1\.1 408 /);
  assert.match(slowBody.bytes(), /^HTTP\/1\.1 408 /);
});

test('G8: a client that asks for much and reads nothing is cut off, and its file is let go', async () => {
  await using api = await startTestApi({ limits: { stalledMs: 400 } });
  const { token, ref } = await api.tenant('acme');
  const id = await api.build(token);
  // More than both kernels buffer for one connection.
  await api.artifact(ref, id, 'rootfs.ext4', Buffer.alloc(64 * 1024 ** 2, 1));
  using connection = await dialRaw(api.port);
  connection.socket.pause();
  connection.socket.write(
    `GET /v1/builds/${id}/artifacts/rootfs.ext4 HTTP/1.1\r\n${HOST}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  );
  const done = (): boolean =>
    api.logged.some(({ fields }) => fields.route === '/v1/builds/:id/artifacts/:name');
  for (let waited = 0; !done() && waited < 15_000; waited += 50) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.ok(done(), 'the answer was never given up');
});

test('sockets of one address beyond its share are refused, and come back when others go', async () => {
  await using api = await startTestApi({ limits: { socketsPerAddress: 5 } });
  const held = await Promise.all(Array.from({ length: 5 }, () => dialRaw(api.port)));
  const refused = await dialRaw(api.port);
  await refused.closed();
  for (const each of held) each[Symbol.dispose]();
  await Promise.all(held.map(({ closed }) => closed()));
  for (let tries = 0; ; tries += 1) {
    const answer = await sendRaw(
      api.port,
      `GET /health HTTP/1.1\r\n${HOST}\r\nConnection: close\r\n\r\n`,
    );
    if (answer.startsWith('HTTP/1.1 200')) break;
    assert.ok(tries < 1200, 'the places never came back');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
