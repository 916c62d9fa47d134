import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disableWebhook } from '../../src/store/webhooks/webhook-rows.ts';
import { startTestApi } from '../fixtures/api.ts';
import { inTime } from '../fixtures/services.ts';

interface Quotas {
  readonly maxDailyBuilds: number;
}

test('operators make tenants and change quotas with If-Match; tenants see their own', async () => {
  await using api = await startTestApi();
  const token = api.operator;
  const made = await api.fetch('/v1/tenants', {
    method: 'POST',
    token,
    json: { name: 'acme', tier: 'pro' },
  });
  assert.deepEqual([made.status, made.headers.get('location')], [201, '/v1/tenants/acme']);
  const again = await api.fetch('/v1/tenants', { method: 'POST', token, json: { name: 'acme' } });
  assert.equal(again.status, 409);
  const tag = made.headers.get('etag') ?? '';

  const headers = { 'x-tenant-id': 'acme' };
  const change = (ifMatch: string, json: unknown): Promise<Response> =>
    api.fetch('/v1/quotas', {
      method: 'PATCH',
      token,
      json,
      headers: { ...headers, 'if-match': ifMatch },
    });
  const changed = await change(tag, { maxDailyBuilds: 7 });
  assert.equal(changed.status, 200);
  assert.equal(((await changed.json()) as Quotas).maxDailyBuilds, 7);
  assert.equal((await change(tag, { maxDailyBuilds: 8 })).status, 412);
  const back = await change(changed.headers.get('etag') ?? '', { maxDailyBuilds: null });
  assert.equal(((await back.json()) as Quotas).maxDailyBuilds, 100);
  for (const json of [
    { maxDailyBuilds: -1 },
    { maxDailyBuilds: '7' },
    { maxMemory: 1 },
    { weight: 0 },
    [],
  ]) {
    assert.equal((await change('*', json)).status, 400, JSON.stringify(json));
  }

  const patched = await api.fetch('/v1/tenants/acme', {
    method: 'PATCH',
    token,
    json: { tier: 'enterprise', suspended: true },
  });
  const view = (await patched.json()) as { tier: string; suspended: boolean };
  assert.deepEqual([view.tier, view.suspended], ['enterprise', true]);
  const list = (await (await api.fetch('/v1/tenants', { token })).json()) as {
    tenants: { name: string }[];
  };
  assert.deepEqual(
    list.tenants.map(({ name }) => name),
    ['acme'],
  );
});

test('tokens: made once, listed without secret, refused within seconds of their revocation', async () => {
  let now = 0;
  await using api = await startTestApi({ nowMs: () => now });
  const { token } = await api.tenant('acme');
  const made = await api.fetch('/v1/tokens', {
    method: 'POST',
    token,
    json: { role: 'reader', name: 'ci', ttlSeconds: 600 },
  });
  assert.equal(made.status, 201);
  const body = (await made.json()) as { secret: string; token: { id: string; tenant: string } };
  assert.equal(body.token.tenant, 'acme');
  const listed = await (await api.fetch('/v1/tokens', { token })).text();
  assert.ok(listed.includes(body.token.id));
  assert.ok(!listed.includes(body.secret));

  assert.equal((await api.fetch('/v1/builds', { token: body.secret })).status, 200);
  const write = await api.fetch('/v1/builds', { method: 'POST', token: body.secret, json: {} });
  assert.equal(write.status, 403);
  const revoked = await api.fetch(`/v1/tokens/${body.token.id}`, { method: 'DELETE', token });
  assert.equal(revoked.status, 204);
  now += 5000;
  assert.equal((await api.fetch('/v1/builds', { token: body.secret })).status, 401);
});

test('tokens are listed by pages, tell who made them, and take along what they made', async () => {
  await using api = await startTestApi({ limits: { tokenCacheMs: 0 } });
  await api.tenant('acme');
  const make = async (token: string, role: string, name: string, headers = {}) => {
    const json = { role, name };
    const answer = await api.fetch('/v1/tokens', { method: 'POST', token, headers, json });
    assert.equal(answer.status, 201);
    return (await answer.json()) as { secret: string; token: { id: string; createdBy: string } };
  };
  const staff = await make(api.operator, 'operator', 'staff');
  const ci = await make(staff.secret, 'tenant', 'ci', { 'x-tenant-id': 'acme' });
  assert.equal(ci.token.createdBy, `token:${staff.token.id}`);
  const job = await make(ci.secret, 'reader', 'job');

  const names: string[] = [];
  for (let cursor = ''; ; ) {
    const page = await api.fetch(`/v1/tokens?limit=2${cursor}`, { token: ci.secret });
    const body = (await page.json()) as { tokens: { name: string }[]; nextCursor?: string };
    names.push(...body.tokens.map(({ name }) => name));
    if (body.nextCursor === undefined) break;
    cursor = `&cursor=${encodeURIComponent(body.nextCursor)}`;
  }
  assert.deepEqual(names, ['job', 'ci', 'tests']);
  for (const query of ['limit=0', 'limit=501', 'cursor=x', 'page=2']) {
    assert.equal((await api.fetch(`/v1/tokens?${query}`, { token: ci.secret })).status, 400, query);
  }

  const alive = async () => {
    const tries = [staff, ci, job].map(({ secret }) =>
      api.fetch('/v1/usage', { token: secret, headers: { 'x-tenant-id': 'acme' } }),
    );
    return (await Promise.all(tries)).map(({ status }) => status);
  };
  const revoke = async (query: string) => {
    const path = `/v1/tokens/${staff.token.id}${query}`;
    return (await api.fetch(path, { method: 'DELETE', token: api.operator })).status;
  };
  assert.equal(await revoke('?cascade=maybe'), 400);
  assert.equal(await revoke(''), 204);
  assert.deepEqual(await alive(), [401, 200, 200]);
  assert.equal(await revoke('?cascade=true'), 204);
  assert.deepEqual(await alive(), [401, 401, 401]);
});

test('a webhook that was disabled says why, and is enabled again', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const json = { url: 'https://hooks.example.com/x', events: ['build.completed'] };
  const hook = await api.fetch('/v1/webhooks', { method: 'POST', token, json });
  const { webhook } = (await hook.json()) as { webhook: { id: string } };
  await api.services.database.transaction(
    (tx) => disableWebhook(tx, webhook.id, 'it answered 410'),
    inTime(),
  );
  const list = await (await api.fetch('/v1/webhooks', { token })).json();
  const shown = (list as { webhooks: Record<string, unknown>[] }).webhooks[0];
  assert.deepEqual(
    ['active', 'disabledReason', 'pendingDeliveries', 'droppedDeliveries'].map(
      (key) => shown?.[key],
    ),
    [false, 'it answered 410', 0, 0],
  );
  const enable = (id: string) => api.fetch(`/v1/webhooks/${id}/enable`, { method: 'POST', token });
  const enabled = await enable(webhook.id);
  assert.equal(enabled.status, 200);
  const after = (await enabled.json()) as Record<string, unknown>;
  assert.deepEqual([after['active'], 'disabledReason' in after], [true, false]);
  assert.equal((await enable(crypto.randomUUID())).status, 404);
});

test('credentials can be written and listed, and no answer holds them', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const json = { kind: 'registry', host: 'ghcr.io', username: 'bot', password: 'canary-81c' };
  const put = await api.fetch('/v1/credentials', { method: 'PUT', token, json });
  const stored = await put.text();
  assert.equal(put.status, 200, stored);
  const list = await (await api.fetch('/v1/credentials', { token })).text();
  assert.match(list, /ghcr\.io/);
  assert.doesNotMatch(stored + list, /canary-81c|password/);
  const { id } = JSON.parse(stored) as { id: string };
  assert.equal((await api.fetch(`/v1/credentials/${id}`, { method: 'DELETE', token })).status, 204);
  assert.equal((await api.fetch(`/v1/credentials/${id}`, { method: 'DELETE', token })).status, 404);
  assert.ok(!JSON.stringify(api.logged).includes('canary-81c'));
});

test('webhooks, usage, violations, stats and audit answer with their schemas', async () => {
  await using api = await startTestApi();
  const { token, ref } = await api.tenant('acme');
  const hook = await api.fetch('/v1/webhooks', {
    method: 'POST',
    token,
    json: { url: 'https://hooks.example.com/x', events: ['build.completed'] },
  });
  const made = (await hook.json()) as { webhook: { id: string }; secret: string };
  assert.equal(hook.status, 201);
  assert.ok(made.secret.length > 20);
  assert.equal(
    (await api.fetch(`/v1/webhooks/${made.webhook.id}`, { method: 'DELETE', token })).status,
    204,
  );

  await api.build(token);
  const operatorOf = { token: api.operator, headers: { 'x-tenant-id': ref.name } };
  await api.fetch('/v1/quotas', { ...operatorOf, method: 'PATCH', json: { maxQueuedBuilds: 1 } });
  const refused = await api.fetch('/v1/builds', {
    method: 'POST',
    token,
    json: { source: { image: { reference: 'a' } } },
  });
  const problem = (await refused.json()) as {
    code: string;
    details: { quotaType: string; limit: number };
  };
  assert.deepEqual(
    [refused.status, problem.code, problem.details.quotaType, problem.details.limit],
    [429, 'quota.exceeded', 'queued_builds', 1],
  );
  assert.ok(Number(refused.headers.get('retry-after')) > 0);

  const get = async (path: string, as = token): Promise<Record<string, unknown>> => {
    const answer = await api.fetch(path, { token: as });
    const text = await answer.text();
    assert.equal(answer.status, 200, `${path}: ${text}`);
    return JSON.parse(text) as Record<string, unknown>;
  };
  assert.equal((await get('/v1/usage'))['queuedBuilds'], 1);
  assert.equal(((await get('/v1/violations'))['violations'] as unknown[]).length, 1);
  assert.equal((await get('/v1/stats'))['totalBuilds'], 1);
  const today = new Date().toISOString().slice(0, 10);
  assert.equal(
    ((await get(`/v1/usage/days?from=${today}&to=${today}`))['days'] as unknown[]).length,
    1,
  );
  const audit = (await get('/v1/audit', api.operator))['entries'] as {
    action: string;
    requestId: string;
  }[];
  assert.ok(
    audit.some(({ action, requestId }) => action === 'tenant.update' && requestId.length === 36),
  );
});

test('requests beyond the quota get 429 with the numbers; other tenants do not notice', async () => {
  let now = 0;
  await using api = await startTestApi({ nowMs: () => now, limits: { tenantCacheMs: 0 } });
  const { token, ref } = await api.tenant('acme');
  const other = await api.tenant('other');
  await api.fetch('/v1/quotas', {
    method: 'PATCH',
    token: api.operator,
    headers: { 'x-tenant-id': ref.name },
    json: { requestsPerMinute: 60, requestBurst: 3 },
  });
  // The bucket that the change itself was counted in was larger; this one starts at its new size.
  const answers = [];
  for (let n = 0; n < 4; n += 1) answers.push(await api.fetch('/v1/usage', { token }));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 429],
  );
  const [first, , , last] = answers;
  assert.ok(first !== undefined && last !== undefined);
  assert.deepEqual(
    ['ratelimit-limit', 'ratelimit-remaining', 'x-ratelimit-limit', 'x-ratelimit-remaining'].map(
      (name) => first.headers.get(name),
    ),
    ['60', '2', '60', '2'],
  );
  assert.equal(last.headers.get('retry-after'), '1');
  assert.ok(Number(last.headers.get('x-ratelimit-reset')) > 1_700_000_000);
  assert.equal(((await last.json()) as { code: string }).code, 'api.too_many');
  assert.equal((await api.fetch('/v1/usage', { token: other.token })).status, 200);
  now += 1000;
  assert.equal((await api.fetch('/v1/usage', { token })).status, 200);
});
