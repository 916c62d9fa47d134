import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RouteExtension } from '../../src/api/api-options.ts';
import { callerOf, tenantOf } from '../../src/api/auth/request-state.ts';
import { parseTenantName } from '../../src/core/ids.ts';
import { startTestApi } from '../fixtures/api.ts';

/** As an RPC plugin does: raw bodies, the tenant named in the message, faults in words of its own. */
const echo: RouteExtension = async (app, context) => {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/x-echo',
    { parseAs: 'string' },
    async (_request: unknown, body: string) => body,
  );
  app.setErrorHandler((reason, _request, reply) => {
    reply.code(418).send(`echo: ${reason instanceof Error ? reason.message : ''}`);
  });
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, guard: { access: 'write', tenant: 'deferred' } };
  });
  app.post('/echo', async (request) => {
    const named =
      typeof request.body === 'string' && request.body !== ''
        ? parseTenantName(request.body)
        : undefined;
    const tenant = await context.enterTenant(request, named);
    return `${callerOf(request).role} ${tenant.name} ${tenantOf(request) === tenant}`;
  });
};

test('an extension adds routes behind the same gate and keeps its own bodies and faults', async () => {
  await using api = await startTestApi({ extensions: [echo] });
  const { token } = await api.tenant('acme');
  const reader = await api.tenant('reading', 'reader');
  const send = async (body: string, as?: string, headers = {}): Promise<[number, string]> => {
    const answer = await api.fetch('/echo', {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/x-echo', ...headers },
      ...(as === undefined ? {} : { token: as }),
    });
    return [answer.status, await answer.text()];
  };
  assert.deepEqual(await send('acme', token), [200, 'tenant acme true']);
  assert.deepEqual(await send('', token), [200, 'tenant acme true']);
  assert.deepEqual(await send('acme', api.operator), [200, 'operator acme true']);
  const [status, text] = await send('acme');
  assert.deepEqual([status, /^echo: .*no token/.test(text)], [418, true]);
  assert.match((await send('reading', token))[1], /^echo: Cannot act for this tenant/);
  assert.match(
    (await send('acme', token, { 'x-tenant-id': 'reading' }))[1],
    /^echo: Cannot act for this tenant/,
  );
  assert.match((await send('', reader.token))[1], /^echo: Cannot do this/);
  // Outside of it nothing changed.
  assert.equal(
    (
      await api.fetch('/v1/builds', {
        method: 'POST',
        token,
        body: 'x',
        headers: { 'content-type': 'application/x-echo' },
      })
    ).status,
    415,
  );
});

test('a route that does not say who may use it stops the start', async () => {
  const open: RouteExtension = async (app) => {
    app.get('/open', async () => 'hello');
  };
  await assert.rejects(startTestApi({ extensions: [open] }), /nothing says who may use it/);
});
