import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';

async function codeOf(answer: Response): Promise<string> {
  assert.match(answer.headers.get('content-type') ?? '', /problem\+json/);
  return stringMember(await answer.json(), 'code');
}

async function operations(api: ApiHarness): Promise<readonly string[]> {
  const document: unknown = await (await api.fetch('/v1/openapi.json')).json();
  const paths: unknown =
    typeof document === 'object' && document !== null ? Reflect.get(document, 'paths') : undefined;
  assert.ok(typeof paths === 'object' && paths !== null);
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods as object).map((method) => `${method.toUpperCase()} ${path}`),
  );
}

test('G31: there is no way to upload: routes that would take one are not there, for nobody', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const uploads: readonly (readonly [method: string, path: string])[] = [
    ['POST', '/v1/uploads'],
    ['PUT', '/v1/uploads/1'],
    ['PATCH', '/v1/uploads/1'],
    ['PUT', `/v1/builds/${id}/artifacts/rootfs.ext4`],
    ['POST', `/v1/builds/${id}/artifacts`],
    ['PATCH', `/v1/builds/${id}/artifacts/rootfs.ext4`],
    ['PUT', `/v1/builds/${id}/context`],
  ];
  for (const [method, path] of uploads) {
    for (const as of [token, api.operator]) {
      const answer = await api.fetch(path, {
        method,
        token: as,
        body: 'bytes',
        headers: { 'content-type': 'application/octet-stream', 'upload-offset': '0' },
      });
      assert.equal(answer.status, 404, `${method} ${path}`);
      assert.equal(await codeOf(answer), 'api.no_route');
    }
  }
  const known = await operations(api);
  assert.ok(known.length > 30);
  assert.deepEqual(
    known.filter((each) => /upload/i.test(each) || /^(?:PUT|PATCH|POST) .*artifacts/.test(each)),
    [],
  );
});

test('G30: no route takes a body of parts or of bytes, declared or not', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const endless = `--x\r\nContent-Disposition: form-data; name="file"; filename="../../x"\r\n\r\n`;
  const types = ['multipart/form-data; boundary=x', 'multipart/mixed', 'application/octet-stream'];
  for (const type of types) {
    for (const path of ['/v1/builds', '/v1/webhooks', '/v1/credentials']) {
      const answer = await api.fetch(path, {
        method: path === '/v1/credentials' ? 'PUT' : 'POST',
        token,
        body: endless.repeat(1000),
        headers: { 'content-type': type },
      });
      assert.equal(answer.status, 415, `${type} to ${path}`);
      assert.equal(await codeOf(answer), 'api.invalid');
    }
  }
});

test('G35: an address alone opens nothing: signatures and tokens in a query are no identity', async () => {
  await using api = await startTestApi();
  const { token, ref } = await api.tenant('acme');
  const id = await api.build(token);
  await api.artifact(ref, id, 'rootfs.ext4', Buffer.from('bytes'));
  const path = `/v1/builds/${id}/artifacts/rootfs.ext4`;
  const signatures = [
    `access_token=${token}`,
    `token=${token}`,
    'X-Amz-Signature=00&X-Amz-Expires=604800&X-Amz-Date=20990101T000000Z',
    'expires=4102444800&signature=00',
    'sig=00&se=2099-01-01',
  ];
  for (const query of signatures) {
    const answer = await api.fetch(`${path}?${query}`);
    const want = query.includes('token') ? [400, 'api.invalid'] : [401, 'api.unauthenticated'];
    assert.deepEqual([answer.status, await codeOf(answer)], want, query);
  }
  // Storage is never shown to callers: nothing sends them there.
  const answer = await api.fetch(path, { token, redirect: 'manual' });
  assert.equal(answer.status, 200);
  assert.equal(await answer.text(), 'bytes');
});

test('G33: who may is asked of the request that is done: a body too large to read is no smaller one', async () => {
  await using api = await startTestApi();
  const acme = await api.tenant('acme');
  await api.tenant('victim');
  const spec = '{"source":{"image":{"reference":"debian:12"}}}';
  const huge = `${spec.slice(0, -1)},"name":"${'x'.repeat(1024 ** 2)}"}`;
  const post = (body: string, options: object): Promise<Response> =>
    api.fetch('/v1/builds', {
      method: 'POST',
      body,
      ...options,
      headers: { 'content-type': 'application/json', ...Reflect.get(options, 'headers') },
    });
  // Identity and tenant come before the body, however large that is.
  assert.equal((await post(huge, {})).status, 401);
  const foreign = { token: acme.token, headers: { 'x-tenant-id': 'victim' } };
  assert.equal((await post(huge, foreign)).status, 403);
  assert.equal((await post(spec, foreign)).status, 403);
  assert.equal((await post(huge, { token: acme.token })).status, 413);
  // What a body says of rights is judged with the body that is acted upon.
  const escalate = JSON.stringify({ name: 'x', role: 'operator' });
  const padded = ' '.repeat(1024 ** 2) + escalate;
  const tokens = { method: 'POST', token: acme.token };
  const headers = { 'content-type': 'application/json' };
  assert.equal((await api.fetch('/v1/tokens', { ...tokens, headers, body: escalate })).status, 403);
  assert.equal((await api.fetch('/v1/tokens', { ...tokens, headers, body: padded })).status, 413);
  const list = await api.fetch('/v1/builds', { token: acme.token });
  assert.match(await list.text(), /"total":0/);
});
