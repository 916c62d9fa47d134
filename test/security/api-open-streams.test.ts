import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { BuilderService } from '../../src/api/rpc/generated/builder_pb.js';
import { rpcExtension } from '../../src/api/rpc/rpc-extension.ts';
import type { ApiOptions } from '../../src/api/api-options.ts';
import { parseTenantName } from '../../src/core/ids.ts';
import { type ApiHarness, startTestApi } from '../fixtures/api.ts';
import { OPERATOR } from '../fixtures/callers.ts';
import { silentLog } from '../fixtures/databases.ts';
import { inTime } from '../fixtures/services.ts';

const start = (options: Partial<ApiOptions> = {}): Promise<ApiHarness> =>
  startTestApi({
    limits: { reverifyMs: 20, tokenCacheMs: 0, tenantCacheMs: 0 },
    extensions: [rpcExtension(silentLog)],
    ...options,
  });

const SSE = { accept: 'text/event-stream' };

/** How each kind of stream of one caller ended: the code that it was told, or that it was cut. */
interface Endings {
  readonly log: Promise<string>;
  readonly events: Promise<string>;
  readonly plain: Promise<string>;
  readonly rpc: Promise<string>;
}

/** Follows a build in all forms; all of them have begun when this returns. */
async function followAll(api: ApiHarness, token: string, buildId: string): Promise<Endings> {
  const [log, events, plain] = [
    await api.fetch(`/v1/builds/${buildId}/logs`, { token, headers: SSE }),
    await api.fetch('/v1/events', { token, headers: { ...SSE, 'x-tenant-id': 'acme' } }),
    await api.fetch(`/v1/builds/${buildId}/logs?follow=true`, { token }),
  ];
  assert.deepEqual([log.status, events.status, plain.status], [200, 200, 200]);
  const client = createClient(
    BuilderService,
    createConnectTransport({ baseUrl: api.url, httpVersion: '1.1' }),
  );
  const entries = client.streamBuildLogs(
    { buildId, tenantId: 'acme', follow: true },
    { headers: { authorization: `Bearer ${token}` } },
  );
  const rpc = entries[Symbol.asyncIterator]();
  const first = await rpc.next();
  assert.equal(first.done, false);
  return {
    log: log.text().then(lastFault),
    events: events.text().then(lastFault),
    plain: plain.text().then(
      () => 'whole',
      () => 'cut',
    ),
    rpc: (async () => {
      try {
        while ((await rpc.next()).done !== true);
        return 'whole';
      } catch (reason) {
        assert.ok(reason instanceof ConnectError, String(reason));
        return Code[reason.code];
      }
    })(),
  };
}

/** The code of the `fault` event that a stream ended with. */
function lastFault(text: string): string {
  const [, data] = /event: fault\ndata: (.+)\n\n$/.exec(text) ?? [];
  if (data === undefined) return `no fault: ${text.slice(-200)}`;
  const problem: unknown = JSON.parse(data);
  const code: unknown = Reflect.get(Object(problem), 'code');
  assert.equal(typeof Reflect.get(Object(problem), 'requestId'), 'string');
  return String(code);
}

const allEnded = async (endings: Endings): Promise<readonly string[]> =>
  Promise.all([endings.log, endings.events, endings.plain, endings.rpc]);

test('open streams end with a typed fault when their token is revoked, and others go on', async () => {
  await using api = await start();
  const { ref, token } = await api.tenant('acme');
  const id = await api.build(token);
  await api.log(id, ['one']);
  const wish = { role: 'reader', name: 'thief', tenant: ref } as const;
  const thief = await api.services.tenants.createToken(OPERATOR, wish, inTime());
  const bystander = await api.fetch('/v1/events', { token, headers: SSE });
  const endings = await followAll(api, thief.secret, id);
  await api.services.tenants.revokeToken(OPERATOR, ref, thief.token.id, inTime());
  assert.deepEqual(await allEnded(endings), [
    'api.unauthenticated',
    'api.unauthenticated',
    'cut',
    'Unauthenticated',
  ]);
  // What happens after it is still told to the one whose token lives.
  const answer = await api.fetch(`/v1/builds/${id}/cancel`, { method: 'POST', token });
  assert.equal(answer.status, 202);
  await api.services.tenants.update(OPERATOR, ref, { overrides: { weight: 7 } }, inTime());
  let seen = '';
  const decoder = new TextDecoder();
  for await (const chunk of bystander.body ?? []) {
    seen += decoder.decode(chunk, { stream: true });
    if (seen.includes('event: tenant.updated')) break;
  }
  assert.match(seen, /event: tenant\.updated/);
  assert.doesNotMatch(seen, /event: fault/);
});

test('open streams end when their token, or their JWT, ends', async () => {
  const ends = { at: 0 };
  // Of the API alone, so that nothing else can be quicker than the stream: it begins, whatever waits.
  const clock = { now: () => new Date(Date.now() + 599_000) };
  await using api = await start({
    clock,
    limits: { reverifyMs: 600_000, tokenCacheMs: 0, tenantCacheMs: 0 },
    auth: {
      mode: 'tokens',
      verifyJwt: async () => ({
        actor: 'jwt:https://id.example/anna',
        role: 'tenant',
        tenants: new Set([parseTenantName('acme')]),
        expiresAt: ends.at,
      }),
    },
  });
  const { ref, token } = await api.tenant('acme');
  const id = await api.build(token);
  await api.log(id, ['one']);
  const wish = { role: 'reader', name: 'short', tenant: ref, ttlSeconds: 600 } as const;
  const short = await api.services.tenants.createToken(OPERATOR, wish, inTime());
  const own = await api.fetch('/v1/events', { token: short.secret, headers: SSE });
  assert.equal(lastFault(await own.text()), 'api.unauthenticated');
  ends.at = clock.now().getTime() + 1000;
  const jwt = await api.fetch('/v1/events', { token: 'a.b.c', headers: SSE });
  assert.equal(lastFault(await jwt.text()), 'api.unauthenticated');
});

test('a tenant that is suspended loses its streams, and its operator keeps them', async () => {
  await using api = await start();
  const { ref, token } = await api.tenant('acme');
  const id = await api.build(token);
  await api.log(id, ['one']);
  const watching = await api.fetch('/v1/events', {
    token: api.operator,
    headers: { ...SSE, 'x-tenant-id': 'acme' },
  });
  const endings = await followAll(api, token, id);
  await api.services.tenants.update(OPERATOR, ref, { suspended: true }, inTime());
  assert.deepEqual(await allEnded(endings), [
    'api.forbidden',
    'api.forbidden',
    'cut',
    'PermissionDenied',
  ]);
  await api.services.tenants.update(OPERATOR, ref, { suspended: false }, inTime());
  let seen = '';
  const decoder = new TextDecoder();
  for await (const chunk of watching.body ?? []) {
    seen += decoder.decode(chunk, { stream: true });
    if (seen.includes('"suspended":false')) break;
  }
  assert.match(seen, /"suspended":true[^]*"suspended":false/);
});

test('a look that fails ends nothing: the next one tells', async () => {
  let asked = 0;
  await using api = await start({
    auth: {
      mode: 'tokens',
      verifyJwt: async () => {
        asked += 1;
        if (asked > 1 && asked < 5) throw new Error('the issuer is away');
        return asked >= 8
          ? undefined
          : {
              actor: 'jwt:https://id.example/anna',
              role: 'tenant',
              tenants: new Set([parseTenantName('acme')]),
            };
      },
    },
  });
  await api.tenant('acme');
  const answer = await api.fetch('/v1/events', { token: 'a.b.c', headers: SSE });
  assert.equal(lastFault(await answer.text()), 'api.unauthenticated');
  assert.equal(asked, 8);
  assert.equal(
    api.logged.filter(({ message }) => message === 'Cannot verify a follower anew').length,
    3,
  );
});

test('a suspended tenant may read, cancel and delete, and neither makes nor follows anything', async () => {
  await using api = await start();
  const { ref, token } = await api.tenant('acme');
  const [kept, running, doomed] = [
    await api.build(token),
    await api.build(token),
    await api.build(token),
  ];
  await api.log(kept, ['one'], { end: true });
  const { tenants, events } = api.services;
  const acme = { ...OPERATOR, actor: 'x' };
  const credential = await tenants.putCredential(
    acme,
    ref,
    { kind: 'registry', host: 'ghcr.io', token: 'canary' },
    inTime(),
  );
  const hook = { url: 'https://hooks.example.com/x', events: ['build.failed'] } as const;
  const { webhook } = await events.createWebhook(acme, ref, hook, inTime());
  await tenants.update(OPERATOR, ref, { suspended: true }, inTime());

  const json = { source: { image: { reference: 'debian:12' } } };
  const calls: [status: number, method: string, path: string, json?: object][] = [
    [200, 'GET', '/v1/builds'],
    [200, 'GET', `/v1/builds/${kept}`],
    [200, 'GET', `/v1/builds/${kept}/logs`],
    [200, 'GET', `/v1/builds/${kept}/artifacts`],
    [200, 'GET', '/v1/events'],
    [200, 'GET', '/v1/usage'],
    [200, 'GET', '/v1/quotas'],
    [200, 'GET', '/v1/tokens'],
    [200, 'GET', '/v1/tenants/acme'],
    [202, 'POST', `/v1/builds/${running}/cancel`],
    [204, 'DELETE', `/v1/builds/${doomed}`],
    [403, 'POST', '/v1/builds', json],
    [403, 'POST', '/v1/tokens', { role: 'reader', name: 'x' }],
    [403, 'PUT', '/v1/credentials', { kind: 'registry', host: 'quay.io', token: 'x' }],
    [403, 'POST', '/v1/webhooks', hook],
    [403, 'POST', `/v1/webhooks/${webhook.id}/enable`],
    [204, 'DELETE', `/v1/webhooks/${webhook.id}`],
    [204, 'DELETE', `/v1/credentials/${credential.id}`],
  ];
  for (const [status, method, path, body] of calls) {
    const answer = await api.fetch(path, {
      method,
      token,
      ...(body === undefined ? {} : { json: body }),
    });
    const text = await answer.text();
    assert.equal(answer.status, status, `${method} ${path}: ${text}`);
    // Its requests are counted like anybody's.
    assert.equal(answer.headers.get('ratelimit-limit'), '100000', path);
  }
  for (const path of [`/v1/builds/${kept}/logs`, '/v1/events']) {
    const answer = await api.fetch(path, { token, headers: SSE });
    assert.equal(answer.status, 403, path);
    assert.match(await answer.text(), /suspended/);
  }
  // Nothing holds the places of streams that were refused.
  const operator = { token: api.operator, headers: { ...SSE, 'x-tenant-id': 'acme' } };
  const followed = await api.fetch(`/v1/builds/${kept}/logs`, operator);
  assert.match(await followed.text(), /event: end/);
  const made = await api.fetch('/v1/tokens', {
    method: 'POST',
    token: api.operator,
    headers: { 'x-tenant-id': 'acme' },
    json: { role: 'reader', name: 'for later' },
  });
  assert.equal(made.status, 201);
  await tenants.update(OPERATOR, ref, { suspended: false }, inTime());
  await api.build(token);
});

test('a suspended tenant that asks too often is told to wait like any other', async () => {
  await using api = await start({ nowMs: () => 0 });
  const { ref, token } = await api.tenant('acme');
  const change = { suspended: true, overrides: { requestsPerMinute: 60, requestBurst: 2 } };
  await api.services.tenants.update(OPERATOR, ref, change, inTime());
  const answers = [];
  for (let n = 0; n < 3; n += 1) {
    answers.push((await api.fetch('/v1/usage', { token })).status);
  }
  assert.deepEqual(answers, [200, 200, 429]);
});
