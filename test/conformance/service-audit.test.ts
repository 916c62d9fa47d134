import assert from 'node:assert/strict';
import { test } from 'node:test';
import { callerOf, OPERATOR } from '../fixtures/callers.ts';
import { IMAGE, serviceOn } from '../fixtures/build-service.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { inTime, testServices } from '../fixtures/services.ts';

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: H24: each change is in the audit log: who, what, before, after and in which request`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants, events } = services;
    await using harness = serviceOn(opened.database, { secrets: services.secrets });
    const { service } = harness;
    const acme = await services.tenant('acme');
    const raised = { overrides: { maxConcurrentBuilds: 3, maxDailyBuilds: 50 } };
    await tenants.update(OPERATOR, acme, raised, inTime());
    const anna = { ...callerOf('acme'), requestId: 'request-anna' };

    const build = async () => (await service.create(anna, acme, IMAGE, inTime())).build.id;
    const [waiting, running, old, forced] = [
      await build(),
      await build(),
      await build(),
      await build(),
    ];
    await service.cancel(anna, acme, waiting, inTime());
    await harness.hold(running);
    await service.cancel(anna, acme, running, inTime());
    // A repeat changes nothing, and is not told again.
    await service.cancel(anna, acme, running, inTime());
    await harness.end(old);
    await service.delete(anna, acme, old, { ...inTime(), force: false });
    await harness.hold(forced);
    await assert.rejects(service.delete(anna, acme, forced, { ...inTime(), force: false }));
    await service.delete(anna, acme, forced, { ...inTime(), force: true });

    const wish = { role: 'reader', tenant: acme, name: 'ci' } as const;
    const { token } = await tenants.createToken(anna, wish, inTime());
    await tenants.revokeToken(anna, acme, token.id, inTime());
    const login = { kind: 'registry', host: 'ghcr.io', token: 'canary-7f' } as const;
    const credential = await tenants.putCredential(anna, acme, login, inTime());
    await tenants.putCredential(anna, acme, login, inTime());
    await tenants.deleteCredential(anna, acme, credential.id, inTime());
    const hook = { url: 'https://example.com/canary-7f', events: ['build.failed'] } as const;
    const { webhook } = await events.createWebhook(anna, acme, hook, inTime());
    await events.deleteWebhook(anna, acme, webhook.id, inTime());

    const audited = (await tenants.audit(OPERATOR, { limit: 100, tenant: acme, ...inTime() }))
      .toReversed()
      .slice(1);
    const shown = { prefix: token.prefix, role: 'reader', name: 'ci' };
    const stored = { kind: 'registry', host: 'ghcr.io' };
    const sent = { origin: 'https://example.com', events: ['build.failed'] };
    const free = { tier: 'free', suspended: false };
    const want: [action: string, target: string, before: unknown, after: unknown][] = [
      ['tenant.update', 'acme', { ...free, overrides: {} }, { ...free, ...raised }],
      ['build.cancel', waiting, { state: 'pending' }, { state: 'cancelled' }],
      ['build.cancel', running, { state: 'pulling' }, { cancelRequested: true }],
      ['build.delete', old, { state: 'completed', name: '' }, { deleted: true, force: false }],
      ['build.delete', forced, { state: 'pulling', name: '' }, { deleted: true, force: true }],
      ['token.create', token.id, undefined, shown],
      ['token.revoke', token.id, shown, { revoked: true }],
      ['credential.create', credential.id, undefined, { ...stored, fields: ['token'] }],
      ['credential.replace', credential.id, stored, { ...stored, fields: ['token'] }],
      ['credential.delete', credential.id, stored, undefined],
      ['webhook.create', webhook.id, undefined, sent],
      ['webhook.delete', webhook.id, sent, undefined],
    ];
    const byKey = (rows: readonly (readonly unknown[])[]) =>
      rows.map((row) => JSON.stringify(row)).sort();
    assert.deepEqual(
      byKey(audited.map((each) => [each.action, each.target, each.oldValue, each.newValue])),
      byKey(want),
    );
    for (const each of audited) {
      const isQuota = each.action === 'tenant.update';
      assert.deepEqual(
        [each.actor, each.requestId, each.tenant, each.address],
        isQuota
          ? ['local', 'request-1', 'acme', '192.0.2.1']
          : ['test:acme/tenant', 'request-anna', 'acme', '192.0.2.1'],
        each.action,
      );
    }
    assert.ok(!JSON.stringify(audited).includes('canary-7f'));
  });
});
