import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';

const SPEC = '{"source":{"image":{"reference":"debian:12"}}}';

async function post(
  api: ApiHarness,
  token: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<[status: number, code: string]> {
  const answer = await api.fetch('/v1/builds', {
    method: 'POST',
    token,
    body: typeof body === 'string' ? body : new Uint8Array(body),
    headers: { 'content-type': 'application/json', ...headers },
  });
  const document: unknown = await answer.json();
  return [answer.status, answer.ok ? 'ok' : stringMember(document, 'code')];
}

test('G5 and G12: bodies that are too large, too deep, too wide or ambiguous get 413 or 400', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const invalid: [name: string, body: string | Buffer][] = [
    ['depth', `{"source":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['keys', `{${Array.from({ length: 60_000 }, (_, n) => `"k${n}":1`).join()}}`],
    ['a key twice', '{"source":{"image":{"reference":"a"}},"source":{"image":{"reference":"b"}}}'],
    ['a key in two cases', '{"source":{"image":{"reference":"a"}},"Source":1}'],
    ['__proto__', `{"__proto__":{"formats":["tar"]},${SPEC.slice(1)}`],
    ['constructor.prototype', `{"constructor":{"prototype":{}},${SPEC.slice(1)}`],
    ['NUL: G37', '{"source":{"image":{"reference":"a\\u0000b"}}}'],
    ['an escape sequence in a name', '{"source":{"image":{"reference":"a"}},"name":"\\u001b[2J"}'],
    ['a line end in a name', '{"source":{"image":{"reference":"a"}},"name":"a\\nb"}'],
    ['a C1 control in a label', '{"source":{"image":{"reference":"a"}},"labels":{"a":"\\u009b"}}'],
    ['half a surrogate: G37', '{"source":{"image":{"reference":"\\ud800"}}}'],
    ['NUL in a label: G37', '{"source":{"image":{"reference":"a"}},"labels":{"a":"\\u0000"}}'],
    [
      'no UTF-8: G37',
      Buffer.concat([Buffer.from('{"name":"'), Buffer.from([0xff]), Buffer.from('"}')]),
    ],
    ['an array', '[]'],
    ['a text', '"x"'],
    ['nothing', ''],
    ['a number as text', '{"source":{"image":{"reference":"a"}},"timeoutSeconds":"60"}'],
    ['a number beyond', '{"source":{"image":{"reference":"a"}},"priority":1e300}'],
    ['a fraction', '{"source":{"image":{"reference":"a"}},"timeoutSeconds":1.5}'],
  ];
  for (const [name, body] of invalid) {
    assert.deepEqual(await post(api, token, body), [400, 'api.invalid'], name);
  }
  for (const size of [1024 ** 2 + 1, 8 * 1024 ** 2]) {
    assert.deepEqual(await post(api, token, Buffer.alloc(size, 0x20)), [413, 'api.too_large']);
  }
  assert.deepEqual(await post(api, token, `${SPEC.slice(0, -1)},"name":"${'é'.repeat(100)}"}`), [
    202,
    'ok',
  ]);
});

test('G6 and G30: compressed and multipart bodies are refused before they are read', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const bomb = gzipSync(Buffer.alloc(16 * 1024 ** 2));
  for (const encoding of ['gzip', 'deflate', 'br', 'zstd', 'gzip, gzip', 'x']) {
    assert.deepEqual(await post(api, token, bomb, { 'content-encoding': encoding }), [
      415,
      'api.invalid',
    ]);
  }
  const parts =
    `--x\r\nContent-Disposition: form-data; name="a"; filename="../../x"\r\n\r\n\r\n`.repeat(100);
  assert.deepEqual(
    await post(api, token, parts, { 'content-type': 'multipart/form-data; boundary=x' }),
    [415, 'api.invalid'],
  );
});

test('G18 and G19: cursors, page sizes and filters are opaque, capped and never SQL', async () => {
  await using api = await startTestApi();
  const acme = await api.tenant('acme');
  const other = await api.tenant('other');
  for (let n = 0; n < 3; n += 1) {
    await api.build(acme.token);
    await api.build(other.token);
  }
  const list = async (query: string, token = acme.token): Promise<[number, string]> => {
    const answer = await api.fetch(`/v1/builds?${query}`, { token });
    return [answer.status, await answer.text()];
  };
  const [, page] = await list('limit=1');
  const cursor = stringMember(JSON.parse(page), 'nextCursor');
  assert.equal((await list(`limit=1&cursor=${cursor}`))[0], 200);
  const flipped = `${cursor.slice(0, -2)}${cursor.endsWith('AA') ? 'BB' : 'AA'}`;
  const refused = [
    `cursor=${flipped}`,
    'cursor=x',
    'cursor=',
    `cursor=${'a'.repeat(2000)}`,
    'limit=0',
    'limit=501',
    'limit=1000000000',
    'limit=-1',
    'limit=1e3',
    'limit=1&limit=2',
    "state=pending'%20OR%201=1--",
    'state=PENDING',
    'order=created_at;drop%20table%20builds',
    'label=a',
    'label=__proto__%3D1',
    "label=a'%3D1",
    'cursor=%00',
  ];
  for (const query of refused) assert.equal((await list(query))[0], 400, query);
  assert.equal((await list(`cursor=${cursor}`, other.token))[0], 400, "another tenant's cursor");
  const [status, none] = await list(`label=team%3D${encodeURIComponent("x' OR '1'='1")}`);
  assert.deepEqual([status, (JSON.parse(none) as { total: number }).total], [200, 0]);
});

test('G22 and G24: repeats answer the first build, other bodies 422, and parallel creates keep the quota', async () => {
  await using api = await startTestApi();
  const { token, ref } = await api.tenant('acme');
  const create = async (
    key: string,
    reference: string,
  ): Promise<[number, string, string | null]> => {
    const answer = await api.fetch('/v1/builds', {
      method: 'POST',
      token,
      json: { source: { image: { reference } } },
      headers: { 'idempotency-key': key },
    });
    const document = (await answer.json()) as { id?: string; code?: string };
    return [
      answer.status,
      document.id ?? document.code ?? '',
      answer.headers.get('idempotency-replayed'),
    ];
  };
  const first = await create('k-1', 'a');
  assert.deepEqual([first[0], first[2]], [202, null]);
  assert.deepEqual(await create('k-1', 'a'), [202, first[1], 'true']);
  assert.deepEqual(await create('k-1', 'b'), [422, 'api.key_reused', null]);
  const same = await Promise.all(Array.from({ length: 10 }, () => create('k-2', 'a')));
  assert.equal(new Set(same.filter(([status]) => status === 202).map(([, id]) => id)).size, 1);
  for (const key of [' ', 'x'.repeat(300)]) {
    const [status] = await create(key, 'a');
    assert.equal(status, 400, JSON.stringify(key.slice(0, 5)));
  }

  await api.fetch('/v1/quotas', {
    method: 'PATCH',
    token: api.operator,
    headers: { 'x-tenant-id': ref.name },
    json: { maxQueuedBuilds: 3 },
  });
  const racing = await Promise.all(Array.from({ length: 50 }, () => post(api, token, SPEC)));
  assert.equal(racing.filter(([status]) => status === 202).length, 1);
  assert.ok(racing.every(([status]) => status === 202 || status === 429));
});

test('G23: cancel and delete are answered alike however often and whenever they come', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const cancels = await Promise.all(
    Array.from({ length: 10 }, () =>
      api.fetch(`/v1/builds/${id}/cancel`, { method: 'POST', token }),
    ),
  );
  assert.deepEqual(new Set(cancels.map(({ status }) => status)), new Set([202]));
  const deletes = await Promise.all(
    Array.from({ length: 10 }, () => api.fetch(`/v1/builds/${id}`, { method: 'DELETE', token })),
  );
  assert.ok(deletes.every(({ status }) => status === 204 || status === 404));
  assert.ok(deletes.some(({ status }) => status === 204));
});

test('G13, G15 and G16: artifacts are found by name in the database, and come as harmless bytes', async () => {
  await using api = await startTestApi();
  const { token, ref } = await api.tenant('acme');
  const id = await api.build(token);
  await api.artifact(ref, id, 'page.html', Buffer.from('<script>alert(1)</script>'));
  const path = `/v1/builds/${id}/artifacts`;
  const names = [
    '..%2f..%2fetc%2fpasswd',
    '%2e%2e',
    'page.html%00',
    '%00',
    '..%5c..%5cetc',
    'a%0d%0aX:1',
    '%252e',
    'rootfs.ext4',
  ];
  for (const name of names) {
    const answer = await api.fetch(`${path}/${name}`, { token });
    assert.ok([404, 400].includes(answer.status), `${name}: ${answer.status}`);
    assert.match(answer.headers.get('content-type') ?? '', /problem\+json/);
  }
  const page = await api.fetch(`${path}/page.html`, { token });
  assert.equal(page.headers.get('content-type'), 'application/octet-stream');
  assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
  assert.match(page.headers.get('content-disposition') ?? '', /^attachment; filename="page\.html"/);
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'/);
  for (const range of [`bytes=${'0-,'.repeat(1000)}0-`, 'bytes=9e99-', 'bytes=-', 'bytes=--1']) {
    const answer = await api.fetch(`${path}/page.html`, { token, headers: { range } });
    assert.ok([200, 416].includes(answer.status), range.slice(0, 20));
    assert.ok((await answer.text()).length < 1000);
  }
});

test('G32: names of builds and tenants are data: odd ones are stored as they are or refused', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  for (const name of [
    '../x',
    'cgroup.procs',
    'a-b-c',
    '<b>',
    'x'.repeat(200),
    '🦀',
    "'; DROP TABLE builds;--",
  ]) {
    const id = await api.build(token, { source: { image: { reference: 'a' } }, name });
    const read = await api.fetch(`/v1/builds/${id}`, { token });
    assert.equal(((await read.json()) as { name: string }).name, name);
  }
  const as = { method: 'POST', token: api.operator };
  for (const name of ['../x', 'a/b', '', 'x'.repeat(64), '🦀', '-a', 'a b']) {
    assert.equal((await api.fetch('/v1/tenants', { ...as, json: { name } })).status, 400, name);
  }
});

test('G21: webhooks inside the network are refused', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const urls = [
    'http://127.0.0.1/x',
    'http://[::1]/x',
    'http://169.254.169.254/latest/meta-data',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://10.0.0.1/',
    'file:///etc/passwd',
    'gopher://x/',
    'https://user:pass@hooks.example.com/',
    'javascript:alert(1)',
  ];
  for (const url of urls) {
    const answer = await api.fetch('/v1/webhooks', {
      method: 'POST',
      token,
      json: { url, events: ['build.failed'] },
    });
    assert.ok([400, 403, 422].includes(answer.status), `${url}: ${answer.status}`);
  }
});

test('G34: a fault inside is an id for the caller and a line in the log', async () => {
  const inner = new Error(
    'SQLITE_CORRUPT: SELECT * FROM builds at /var/lib/builderd/data/builderd.db',
  );
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const broken = { ...api.harness.service };
  const fail = async (): Promise<never> => {
    throw inner;
  };
  await using other = await startTestApi({
    tenants: api.services.tenants,
    builds: {
      ...broken,
      get: fail,
      list: fail,
      followLog: () => {
        throw inner;
      },
    },
  });
  const id = await api.build(token);
  for (const path of [`/v1/builds/${id}`, '/v1/builds', `/v1/builds/${id}/logs?follow=true`]) {
    const answer = await other.fetch(path, { token });
    const text = await answer.text();
    assert.equal(answer.status, 500, path);
    assert.doesNotMatch(text, /SQL|SELECT|\/var|node:|at .*\(|\.ts/);
    const requestId = stringMember(JSON.parse(text), 'requestId');
    assert.equal(answer.headers.get('x-request-id'), requestId);
    const line = other.logged.find(
      ({ level, fields }) => level === 'error' && fields.requestId === requestId,
    );
    assert.ok(line?.fields.err instanceof Error && line.fields.err.cause === inner);
  }
});

test('G27: health gives one word, and status and metrics are no open routes', async () => {
  await using api = await startTestApi({
    health: {
      phase: () => 'serving',
      problems: async () => ['database at /var/lib'],
      status: async () => ({}),
    },
  });
  for (const path of ['/health', '/health/ready']) {
    assert.match(await (await api.fetch(path)).text(), /^[a-z]+\n$/);
  }
  const lost = await api.fetch('/metrics');
  assert.equal(lost.status, 404);
  assert.match(await lost.text(), /"api\.no_route".*\/v1\/openapi\.json/);
  assert.equal((await api.fetch('/debug/status')).status, 401);
  assert.equal((await api.fetch('/debug/pprof', { token: api.operator })).status, 404);
});

test('G37: NUL in paths and queries is no way into the database', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  for (const path of [
    '/v1/builds/%00',
    '/v1/builds?cursor=%00',
    '/v1/builds?state=%00',
    '/v1/tenants/a%00',
    '/v1/usage/days?from=%00&to=%00',
  ]) {
    const answer = await api.fetch(path, { token });
    assert.ok([400, 403, 404].includes(answer.status), `${path}: ${answer.status}`);
  }
});
