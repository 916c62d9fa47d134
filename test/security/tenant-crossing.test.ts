import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Caller, TenantRef } from '../../src/builds/service/caller.ts';
import { parseTenantName } from '../../src/core/ids.ts';
import { callerOf, OPERATOR } from '../fixtures/callers.ts';
import { openTestSqlite } from '../fixtures/databases.ts';
import { inTime, testServices, type TestServices } from '../fixtures/services.ts';

const HOOK = { url: 'https://example.com/', events: ['build.completed'] } as const;
const CREDENTIAL = { kind: 'registry', host: 'ghcr.io', token: 't' } as const;

type Attempt = (
  services: TestServices,
  caller: Caller,
  victim: TenantRef,
  ids: { readonly token: string; readonly credential: string; readonly webhook: string },
) => Promise<unknown>;

/** Every method that takes a caller and grants something, tried with a ref that was not resolved for him. */
const ATTEMPTS: { readonly [method: string]: Attempt } = {
  resolve: ({ tenants }, caller, victim) => tenants.resolve(caller, victim.name, inTime()),
  create: ({ tenants }, caller) =>
    tenants.create(caller, { name: parseTenantName('mine'), tier: 'dedicated' }, inTime()),
  update: ({ tenants }, caller, victim) =>
    tenants.update(caller, victim, { tier: 'free' }, inTime()),
  createToken: ({ tenants }, caller, tenant) =>
    tenants.createToken(caller, { role: 'tenant', tenant, name: 'x' }, inTime()),
  createOperatorToken: ({ tenants }, caller) =>
    tenants.createToken(caller, { role: 'operator', name: 'x' }, inTime()),
  listTokens: ({ tenants }, caller, victim) => tenants.listTokens(caller, victim, inTime()),
  listAllTokens: ({ tenants }, caller) => tenants.listTokens(caller, undefined, inTime()),
  revokeToken: ({ tenants }, caller, victim, { token }) =>
    tenants.revokeToken(caller, victim, token, inTime()),
  revokeAnyToken: ({ tenants }, caller, _, { token }) =>
    tenants.revokeToken(caller, undefined, token, inTime()),
  putCredential: ({ tenants }, caller, victim) =>
    tenants.putCredential(caller, victim, CREDENTIAL, inTime()),
  deleteCredential: ({ tenants }, caller, victim, { credential }) =>
    tenants.deleteCredential(caller, victim, credential, inTime()),
  audit: ({ tenants }, caller, tenant) => tenants.audit(caller, { limit: 9, tenant, ...inTime() }),
  auditAll: ({ tenants }, caller) => tenants.audit(caller, { limit: 9, ...inTime() }),
  createWebhook: ({ events }, caller, victim) =>
    events.createWebhook(caller, victim, HOOK, inTime()),
  enableWebhook: ({ events }, caller, victim, { webhook }) =>
    events.enableWebhook(caller, victim, webhook, inTime()),
  deleteWebhook: ({ events }, caller, victim, { webhook }) =>
    events.deleteWebhook(caller, victim, webhook, inTime()),
};

async function withVictim(
  body: (
    services: TestServices,
    victim: TenantRef,
    ids: Parameters<Attempt>[3],
    rows: () => Promise<string>,
  ) => Promise<void>,
): Promise<void> {
  await using opened = await openTestSqlite();
  const services = testServices(opened.database);
  await services.tenant('thief');
  const victim = await services.tenant('victim');
  const caller = callerOf('victim');
  const ids = {
    token: (
      await services.tenants.createToken(
        caller,
        { role: 'tenant', tenant: victim, name: 'x' },
        inTime(),
      )
    ).token.id,
    credential: (await services.tenants.putCredential(caller, victim, CREDENTIAL, inTime())).id,
    webhook: (await services.events.createWebhook(caller, victim, HOOK, inTime())).webhook.id,
  };
  const rows = async (): Promise<string> => {
    const tables = ['tenants', 'tokens', 'credentials', 'webhooks', 'audit', 'events'] as const;
    const all: unknown[] = [];
    for (const table of tables)
      all.push(await opened.database.k.selectFrom(table).selectAll().execute());
    return JSON.stringify(all);
  };
  await body(services, victim, ids, rows);
}

test('a tenant gets nothing of another one, by any method, and leaves no trace', async () => {
  await withVictim(async (services, victim, ids, rows) => {
    const before = await rows();
    for (const caller of [callerOf('thief'), callerOf('thief', 'reader')]) {
      for (const [method, attempt] of Object.entries(ATTEMPTS)) {
        await assert.rejects(
          attempt(services, caller, victim, ids),
          { code: 'api.forbidden' },
          method,
        );
      }
    }
    assert.equal(await rows(), before);
  });
});

test("ids of another tenant's things are not there for the own tenant", async () => {
  await withVictim(async (services, _, ids, rows) => {
    const thief = callerOf('thief');
    const own = await services.tenants.resolve(thief, undefined, inTime());
    const before = await rows();
    for (const method of ['revokeToken', 'deleteCredential', 'enableWebhook', 'deleteWebhook']) {
      const attempt = ATTEMPTS[method]?.(services, thief, own, ids);
      await assert.rejects(attempt ?? Promise.resolve(), { code: 'api.not_found' }, method);
    }
    // A cursor is no key either: it names a token, and shows none.
    for (const cursor of [undefined, `live.${ids.token.replace(/^./, 'f')}`]) {
      const place = cursor === undefined ? {} : { cursor };
      const listed = await services.tenants.listTokens(thief, own, { ...inTime(), ...place });
      assert.deepEqual(listed, { tokens: [] });
    }
    assert.deepEqual(await services.tenants.listCredentials(own, inTime()), []);
    assert.deepEqual(await services.events.listWebhooks(own, inTime()), []);
    assert.deepEqual(await services.tenants.list(thief, inTime()), [
      await services.tenants.get(own, inTime()),
    ]);
    assert.equal(await rows(), before);
  });
});

test('a tenant cannot raise its own tier, lift its suspension or change its quotas', async () => {
  await withVictim(async (services, victim, _ids, rows) => {
    const before = await rows();
    const changes = [
      { tier: 'dedicated' },
      { suspended: false },
      { overrides: { maxConcurrentBuilds: 9999 } },
      {},
    ] as const;
    for (const caller of [callerOf('victim'), { ...callerOf('victim'), tenants: 'all' } as const]) {
      for (const change of changes) {
        await assert.rejects(services.tenants.update(caller, victim, change, inTime()), {
          code: 'api.forbidden',
        });
      }
    }
    assert.equal(await rows(), before);
    await services.tenants.update(OPERATOR, victim, { tier: 'pro' }, inTime());
  });
});

test('a reader changes nothing, not even of its own tenant', async () => {
  await withVictim(async (services, victim, ids, rows) => {
    const reader = callerOf('victim', 'reader');
    const before = await rows();
    const reads = new Set(['resolve', 'listTokens', 'audit']);
    for (const [method, attempt] of Object.entries(ATTEMPTS)) {
      if (reads.has(method)) await attempt(services, reader, victim, ids);
      else
        await assert.rejects(
          attempt(services, reader, victim, ids),
          { code: 'api.forbidden' },
          method,
        );
    }
    assert.equal(await rows(), before);
  });
});

test('an operator of one tenant is none of another, and none of all', async () => {
  await withVictim(async (services, victim, ids, rows) => {
    const before = await rows();
    const caller = { ...callerOf('thief'), role: 'operator' } as const;
    for (const [method, attempt] of Object.entries(ATTEMPTS)) {
      await assert.rejects(
        attempt(services, caller, victim, ids),
        { code: 'api.forbidden' },
        method,
      );
    }
    assert.equal(await rows(), before);
    const own = await services.tenants.resolve(caller, undefined, inTime());
    const changed = await services.tenants.update(caller, own, { tier: 'pro' }, inTime());
    assert.equal(changed.tier, 'pro');
    assert.deepEqual(
      (await services.tenants.list(caller, inTime())).map((tenant) => tenant.name),
      ['thief'],
    );
  });
});
