import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { rpcExtension } from '../../src/api/rpc/rpc-extension.ts';
import { newId } from '../../src/core/ids.ts';
import { type ApiFetch, type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';
import { OPERATOR } from '../fixtures/callers.ts';
import { silentLog } from '../fixtures/databases.ts';
import { dialRaw } from '../fixtures/raw-http.ts';
import { inTime } from '../fixtures/services.ts';

/** Every route that is about one tenant or one of its things. */
const TENANT_ROUTES: [method: string, path: (id: string) => string][] = [
  ['GET', () => '/v1/builds'],
  ['POST', () => '/v1/builds'],
  ['GET', (id) => `/v1/builds/${id}`],
  ['POST', (id) => `/v1/builds/${id}/cancel`],
  ['DELETE', (id) => `/v1/builds/${id}?force=true`],
  ['GET', (id) => `/v1/builds/${id}/logs`],
  ['GET', (id) => `/builder.v1.BuilderService/GetBuildLogs/${id}`],
  ['GET', (id) => `/deploy.builderd.v1.BuilderService/GetBuildLogs/${id}`],
  ['GET', (id) => `/v1/builds/${id}/artifacts`],
  ['GET', (id) => `/v1/builds/${id}/artifacts/rootfs.ext4`],
  ['HEAD', (id) => `/v1/builds/${id}/artifacts/rootfs.ext4`],
  ['GET', () => '/v1/stats'],
  ['GET', () => '/v1/quotas'],
  ['GET', () => '/v1/usage'],
  ['GET', () => '/v1/usage/days?from=2026-01-01&to=2026-01-02'],
  ['GET', () => '/v1/violations'],
  ['GET', () => '/v1/tokens'],
  ['POST', () => '/v1/tokens'],
  ['DELETE', (id) => `/v1/tokens/${id}`],
  ['GET', () => '/v1/credentials'],
  ['PUT', () => '/v1/credentials'],
  ['DELETE', (id) => `/v1/credentials/${id}`],
  ['GET', () => '/v1/events'],
  ['GET', () => '/v1/webhooks'],
  ['POST', () => '/v1/webhooks'],
  ['DELETE', (id) => `/v1/webhooks/${id}`],
];
const OPERATOR_ROUTES: [method: string, path: string, json?: unknown][] = [
  ['GET', '/v1/tenants'],
  ['POST', '/v1/tenants', { name: 'mine' }],
  ['PATCH', '/v1/tenants/acme', { tier: 'dedicated' }],
  ['PATCH', '/v1/quotas', { maxDailyBuilds: 1_000_000 }],
  ['GET', '/v1/audit'],
];

async function send(
  api: ApiHarness,
  method: string,
  path: string,
  token?: string,
  more: object = {},
): Promise<Response> {
  const hasBody = method === 'POST' || method === 'PUT' || method === 'PATCH';
  return api.fetch(path, {
    method,
    ...(hasBody ? { json: {} } : {}),
    ...(token === undefined ? {} : { token }),
    ...more,
  });
}

test('G1: X-Tenant-ID is no identity: with a token of another tenant it is 403, without a token 401', async () => {
  await using api = await startTestApi();
  const mine = await api.tenant('acme');
  await api.tenant('victim');
  const id = newId();
  for (const [method, path] of TENANT_ROUTES) {
    const headers = { 'x-tenant-id': 'victim' };
    const foreign = await send(api, method, path(id), mine.token, { headers });
    assert.equal(foreign.status, 403, `${method} ${path(id)}`);
    await foreign.body?.cancel();
    const bare = await send(api, method, path(id), undefined, { headers });
    assert.equal(bare.status, 401, `${method} ${path(id)}`);
    await bare.body?.cancel();
  }
  for (const name of ['nobody', '../victim', 'victim, acme', 'x'.repeat(300), 'víctim']) {
    const answer = await send(api, 'GET', '/v1/builds', mine.token, {
      headers: { 'x-tenant-id': encodeURI(name) },
    });
    assert.ok([400, 403].includes(answer.status), name);
  }
});

test("G2: another tenant's build is answered like one that does not exist", async () => {
  await using api = await startTestApi();
  const victim = await api.tenant('victim');
  const { token } = await api.tenant('acme');
  const theirs = await api.build(victim.token);
  await api.artifact(victim.ref, theirs, 'rootfs.ext4', Buffer.from('secret'));
  await api.log(theirs, ['secret']);
  for (const [method, path] of TENANT_ROUTES.filter(
    ([, path]) => path('X').includes('X') && path('X').includes('uild'),
  )) {
    const [found, unknown] = [
      await send(api, method, path(theirs), token),
      await send(api, method, path(newId()), token),
    ];
    assert.deepEqual([found.status, unknown.status], [404, 404], `${method} ${path(theirs)}`);
    const [one, two] = [await found.text(), await unknown.text()];
    assert.equal(one.replaceAll(/[0-9a-f-]{36}/g, 'ID'), two.replaceAll(/[0-9a-f-]{36}/g, 'ID'));
  }
  assert.equal((await api.fetch(`/v1/builds/${theirs}`, { token: victim.token })).status, 200);
});

test('G3: operator routes refuse tenants and readers with 403', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const reader = await api.tenant('readers', 'reader');
  for (const [method, path, json] of OPERATOR_ROUTES) {
    for (const as of [token, reader.token]) {
      const answer = await api.fetch(path, {
        method,
        token: as,
        ...(json === undefined ? {} : { json }),
      });
      assert.equal(answer.status, 403, `${method} ${path}`);
    }
  }
  for (const [method, path] of TENANT_ROUTES.filter(
    ([method]) => method !== 'GET' && method !== 'HEAD',
  )) {
    assert.equal(
      (await send(api, method, path(newId()), reader.token)).status,
      403,
      `${method} ${path('…')}`,
    );
  }
  assert.equal((await api.fetch('/v1/tenants/acme', { token })).status, 200);
  assert.equal((await api.fetch('/v1/tenants/readers', { token })).status, 403);
  const role = await api.fetch('/v1/tokens', {
    method: 'POST',
    token,
    json: { role: 'operator', name: 'up' },
  });
  assert.equal(role.status, 403);
});

test('G4: fields that a client may not write are refused, not ignored', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const spec = { source: { image: { reference: 'a' } } };
  const extras = [
    { state: 'completed' },
    { rootfs_path: '/etc' },
    { isolation: {} },
    { tenant_id: 'victim' },
    { suggested_asset_id: 'x' },
    { id: newId() },
    { target: { outputPath: '/' } },
    { source: { image: { reference: 'a', digest: 'sha256:0' } } },
    { source: { image: { reference: 'a' }, git: { url: 'b' } } },
  ];
  for (const extra of extras) {
    const answer = await api.fetch('/v1/builds', {
      method: 'POST',
      token,
      json: { ...spec, ...extra },
    });
    assert.equal(answer.status, 400, JSON.stringify(extra));
  }
  const query = await api.fetch('/v1/builds?tenant_id=victim', { token });
  assert.equal(query.status, 400);
});

test('G25: tokens are not taken from URLs, guesses are counted, and known tokens pass meanwhile', async () => {
  await using api = await startTestApi({
    limits: { failureBurst: 5, failuresPerMinute: 1, tokenCacheMs: 60_000 },
  });
  const { token } = await api.tenant('acme');
  for (const name of ['access_token', 'token', 'api_key', 'Authorization']) {
    const answer = await api.fetch(`/v1/builds?${name}=${token}`);
    assert.ok([400, 401].includes(answer.status), name);
  }
  assert.equal((await api.fetch('/v1/builds', { token })).status, 200);
  const statuses = [];
  for (let n = 0; n < 8; n += 1) {
    statuses.push((await api.fetch('/v1/builds', { token: `bld_${'x'.repeat(42)}${n}` })).status);
  }
  assert.deepEqual(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
  assert.equal((await api.fetch('/v1/builds', { token })).status, 200);
  const odd = [
    'Basic dTpw',
    'Bearer',
    `Bearer ${token} x`,
    `Bearer ${'x'.repeat(9000)}`,
    `bearer\t${token}`,
  ];
  for (const authorization of odd) {
    const answer = await api.fetch('/v1/builds', { headers: { authorization } });
    assert.equal(answer.status, 401, authorization.slice(0, 20));
    assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer/);
  }
  assert.ok(!JSON.stringify(api.logged).includes(token));
});

test('G25: guesses of a neighbour keep out no token that was right before, however short it is believed', async () => {
  await using api = await startTestApi({
    limits: { failureBurst: 3, failuresPerMinute: 1, tokenCacheMs: 0 },
  });
  const { token } = await api.tenant('acme');
  const made = await api.fetch('/v1/tokens', {
    method: 'POST',
    token,
    json: { name: 'other', role: 'tenant' },
  });
  const other = (await made.json()) as { readonly token: unknown };
  const revoked = { secret: stringMember(other, 'secret'), id: stringMember(other.token, 'id') };
  assert.equal((await api.fetch('/v1/builds', { token: revoked.secret })).status, 200);
  const guess = async (text: string): Promise<number> =>
    (await api.fetch('/v1/builds', { token: text })).status;
  const statuses = [];
  for (let n = 0; n < 4; n += 1) statuses.push(await guess(`bld_${'x'.repeat(42)}${n}`));
  assert.deepEqual(statuses, [401, 401, 401, 429]);
  assert.equal(await guess(token), 200);
  // What was right is looked at again all the same, and is a guess from then on.
  const path = `/v1/tokens/${revoked.id}`;
  assert.equal((await api.fetch(path, { method: 'DELETE', token })).status, 204);
  assert.deepEqual([await guess(revoked.secret), await guess(revoked.secret)], [401, 429]);
  assert.equal(await guess(token), 200);
});

test('G25: refusals cost the address that has no right to be here, and health answers it still', async () => {
  const refused: [name: string, path: string, options: ApiFetch, status: number][] = [
    ['no token', '/v1/builds', {}, 401],
    ['no Bearer', '/v1/builds', { headers: { authorization: 'Basic dTpw' } }, 401],
    ['a token in the URL', '/v1/builds?token=x', {}, 400],
    ['a wrong token', '/v1/builds', { token: 'bld_wrong' }, 401],
    [
      'a page of another site',
      '/v1/builds',
      { method: 'POST', headers: { origin: 'https://evil.example' } },
      403,
    ],
    ['a long URL', `/v1/builds?${'x'.repeat(9000)}`, {}, 414],
    ['a compressed body', '/v1/builds', { headers: { 'content-encoding': 'gzip' } }, 415],
    ['a route of an RPC', '/builder.v1.BuilderService/GetBuild', { method: 'POST', json: {} }, 401],
  ];
  for (const [name, path, options, status] of refused) {
    await using api = await startTestApi({
      limits: { addressBurst: 3, addressRequestsPerMinute: 1 },
      extensions: [rpcExtension(silentLog)],
    });
    const statuses = [];
    for (let n = 0; n < 5; n += 1) statuses.push((await api.fetch(path, options)).status);
    assert.deepEqual(statuses, [status, status, status, 429, 429], name);
    assert.equal((await api.fetch('/health')).status, 200, name);
    const { token } = await api.tenant('acme');
    assert.equal((await api.fetch('/v1/builds', { token })).status, 200, name);
  }
});

test('G25: a token that may not do this costs its address, not nothing', async () => {
  await using api = await startTestApi({
    limits: { addressBurst: 2, addressRequestsPerMinute: 1 },
  });
  const { token } = await api.tenant('readers', 'reader');
  const statuses = [];
  for (let n = 0; n < 4; n += 1) {
    statuses.push((await send(api, 'POST', '/v1/builds', token)).status);
  }
  assert.deepEqual(statuses, [403, 403, 429, 429]);
});

test('G25: guesses that come all at once are not tried all at once', async () => {
  let tried = 0;
  await using api = await startTestApi({
    limits: { failureBurst: 5, failuresPerMinute: 1, addressBurst: 1000 },
    auth: {
      mode: 'tokens',
      verifyJwt: async () => {
        tried += 1;
        await new Promise((resolve) => setTimeout(resolve, 100));
        return undefined;
      },
    },
  });
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, n) => api.fetch('/v1/builds', { token: `a.b.${n}` })),
  );
  assert.equal(tried, 5);
  const statuses = answers.map(({ status }) => status).sort((one, two) => one - two);
  assert.deepEqual(statuses, [...Array<number>(5).fill(401), ...Array<number>(55).fill(429)]);
});

test('G8: an RPC without a right or a request left is answered before its body has come', async () => {
  await using api = await startTestApi({ extensions: [rpcExtension(silentLog)] });
  const tenant = await api.harness.tenant('acme', { requestsPerMinute: 1, requestBurst: 1 });
  const { secret: token } = await api.services.tenants.createToken(
    OPERATOR,
    { role: 'tenant', name: 'tests', tenant },
    inTime(),
  );
  const head = (authorization: string): string =>
    'POST /builder.v1.BuilderService/CreateBuild HTTP/1.1\r\nHost: a\r\n' +
    `Content-Type: application/json\r\nContent-Length: 1000\r\n${authorization}\r\n{`;
  const statusOf = async (authorization: string): Promise<number> => {
    using connection = await dialRaw(api.port);
    connection.socket.write(head(authorization));
    const limit = { signal: AbortSignal.timeout(20_000) };
    while (!connection.bytes().includes('\r\n')) await once(connection.socket, 'data', limit);
    return Number(connection.bytes().split(' ', 2)[1]);
  };
  assert.equal(await statusOf(''), 401);
  assert.equal((await api.fetch('/v1/builds', { token })).status, 200);
  assert.equal(await statusOf(`Authorization: Bearer ${token}\r\n`), 429);
});

test('G29: X-Forwarded-For counts only from a trusted proxy', async () => {
  const limits = { addressBurst: 3, addressRequestsPerMinute: 1 };
  const statuses = async (api: ApiHarness): Promise<number[]> => {
    const all = [];
    for (let n = 0; n < 5; n += 1) {
      const answer = await api.fetch('/v1/openapi.json', {
        headers: { 'x-forwarded-for': `203.0.113.${n}` },
      });
      await answer.body?.cancel();
      all.push(answer.status);
    }
    return all;
  };
  {
    await using api = await startTestApi({ limits });
    assert.deepEqual(await statuses(api), [200, 200, 200, 429, 429]);
  }
  await using api = await startTestApi({ limits, trustedProxies: ['127.0.0.0/8'] });
  assert.deepEqual(await statuses(api), [200, 200, 200, 200, 200]);
  const { token } = await api.tenant('acme');
  await api.fetch('/v1/builds', {
    token,
    headers: { 'x-forwarded-for': '198.51.100.7, 203.0.113.1' },
  });
  assert.ok(api.logged.some(({ fields }) => fields.address === '203.0.113.1'));
});

test('G26: a page in a browser can neither post nor rebind its way in', async () => {
  await using api = await startTestApi({ allowedHosts: ['builderd.example.com'] });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const post = (headers: Record<string, string>, body?: string): Promise<Response> =>
    api.fetch('/v1/builds', {
      method: 'POST',
      token,
      headers,
      ...(body === undefined ? {} : { body }),
    });
  const json = '{"source":{"image":{"reference":"a"}}}';
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    '',
  ]) {
    assert.equal((await post({ 'content-type': type }, json)).status, 415, type);
  }
  const cross: Record<string, string>[] = [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ];
  for (const headers of cross) {
    assert.equal(
      (await post({ 'content-type': 'application/json', ...headers }, json)).status,
      403,
    );
    const cancel = await api.fetch(`/v1/builds/${id}/cancel`, { method: 'POST', token, headers });
    assert.equal(cancel.status, 403);
  }
  const preflight = await api.fetch('/v1/builds', {
    method: 'OPTIONS',
    headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
  });
  assert.equal(preflight.headers.get('access-control-allow-origin'), null);
  assert.equal(preflight.status, 403);
  const { curl } = await import('../fixtures/curl.ts');
  const auth = ['-H', `Authorization: Bearer ${token}`];
  for (const version of ['--http1.1', '--http2-prior-knowledge']) {
    const rebound = await curl(
      version,
      ...auth,
      '-H',
      'Host: evil.example',
      `${api.url}/v1/builds`,
    );
    assert.equal(rebound.status, 421, rebound.body);
    const named = await curl(
      version,
      ...auth,
      '-H',
      'Host: builderd.example.com:8082',
      `${api.url}/v1/builds`,
    );
    assert.equal(named.status, 200);
  }
});
