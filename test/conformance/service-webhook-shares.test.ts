import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TenantRef } from '../../src/builds/service/caller.ts';
import { claimDeliveries, finishDelivery } from '../../src/store/webhooks/delivery-rows.ts';
import { queueDeliveries } from '../../src/store/webhooks/queue-deliveries.ts';
import { callerOf, OPERATOR } from '../fixtures/callers.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { inTime, testServices } from '../fixtures/services.ts';
import { startWebhookReceiver } from '../fixtures/webhook-receiver.ts';
import { appendEventTo, hookOf, startSender } from '../fixtures/webhook-sender.ts';

const WANTED = ['build.completed', 'build.failed'] as const;

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: slow receivers of one tenant leave places for those of others`, async () => {
    await using opened = await openTestDatabase();
    await using slow = await startWebhookReceiver(() => undefined);
    await using quick = await startWebhookReceiver();
    const services = testServices(opened.database, { egressAllow: '127.0.0.1/32' });
    const [acme, other] = [await services.tenant('acme'), await services.tenant('other')];
    const hook = (tenant: TenantRef, url: string) =>
      services.events.createWebhook(
        callerOf(tenant.name),
        tenant,
        { url, events: WANTED },
        inTime(),
      );
    for (let nth = 0; nth < 6; nth += 1) await hook(acme, `${slow.url}/${nth}`);
    await appendEventTo(services, acme, 1);
    await using sender = startSender(opened.database, '127.0.0.1/32', {
      concurrency: 4,
      perTenant: 2,
      timeoutMs: 600_000,
    });
    await slow.wait(2);
    await hook(other, quick.url);
    for (let nth = 0; nth < 5; nth += 1) await appendEventTo(services, other, nth);
    await sender.wait(5);
    assert.deepEqual([quick.received.length, slow.received.length], [5, 2]);
  });

  test(`${name}: places go to one webhook of each tenant first`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const [acme, other] = [await services.tenant('acme'), await services.tenant('other')];
    const url = 'https://example.com/';
    for (const tenant of [acme, acme, acme, acme, other, other]) {
      const wish = { url, events: WANTED };
      await services.events.createWebhook(callerOf(tenant.name), tenant, wish, inTime());
    }
    for (const tenant of [acme, other]) await appendEventTo(services, tenant, 1);
    const claim = (limit: number, busy: ReadonlyMap<string, TenantRef['id']>) =>
      claimDeliveries(opened.database, { limit, perTenant: 3, busy, ...inTime() });
    const first = await claim(2, new Map());
    assert.deepEqual(new Set(first.map(({ tenant }) => tenant)), new Set(['acme', 'other']));
    const busy = new Map(first.map(({ webhook, tenantId }) => [webhook.id, tenantId]));
    const second = await claim(10, busy);
    assert.deepEqual(second.map(({ tenant }) => tenant).sort(), ['acme', 'acme', 'other']);
    for (const { webhook, tenantId } of second) busy.set(webhook.id, tenantId);
    assert.deepEqual(await claim(10, busy), []);
    busy.delete(first.find(({ tenant }) => tenant === 'acme')?.webhook.id ?? '');
    assert.deepEqual(
      (await claim(10, busy)).map(({ tenant }) => tenant),
      ['acme'],
    );
  });

  test(`${name}: what waits for a webhook is bounded: the oldest go, counted, but not one in flight`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const services = testServices(database);
    const acme = await services.tenant('acme');
    const wish = { url: 'https://example.com/', events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    const queue = (seq: number) =>
      database.transaction(
        (tx) =>
          queueDeliveries(
            tx,
            { tenantId: acme.id, type: 'build.completed', seq },
            { mostPending: 3 },
          ),
        inTime(),
      );
    for (let seq = 1; seq <= 3; seq += 1) await queue(seq);
    const [claimed] = await claimDeliveries(database, {
      limit: 1,
      perTenant: 1,
      busy: new Map(),
      ...inTime(),
    });
    assert.ok(claimed !== undefined);
    for (let seq = 4; seq <= 6; seq += 1) await queue(seq);
    const rows = await database.k
      .selectFrom('webhook_deliveries')
      .select(['event_seq', 'last_error'])
      .orderBy('event_seq')
      .execute();
    const dropped = 'given up: 3 newer ones wait';
    assert.deepEqual(
      rows.map((row) => row.last_error),
      [null, dropped, dropped, dropped, null, null],
    );
    const hook = await hookOf(services, acme);
    assert.deepEqual([hook?.pendingDeliveries, hook?.droppedDeliveries], [3, 3]);
    const end = database.transaction(
      (tx) => finishDelivery(tx, claimed, { delivered: true }),
      inTime(),
    );
    assert.equal(await end, true);
  });

  test(`${name}: a webhook that was disabled is enabled again, by a writer, with an audit entry`, async () => {
    await using opened = await openTestDatabase();
    let status = 410;
    await using receiver = await startWebhookReceiver((response) =>
      response.writeHead(status).end(),
    );
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const other = await services.tenant('other');
    const wish = { url: receiver.url, events: WANTED };
    const { webhook } = await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    await using sender = startSender(opened.database, receiver.host);
    await sender.wait(1);
    const { events, tenants } = services;
    const enable = (caller = callerOf('acme'), tenant = acme, id = webhook.id) =>
      events.enableWebhook(caller, tenant, id, inTime());
    await assert.rejects(enable(callerOf('acme', 'reader')), { code: 'api.forbidden' });
    await assert.rejects(enable(callerOf('acme'), other), { code: 'api.forbidden' });
    await assert.rejects(enable(callerOf('other'), other), { code: 'api.not_found' });
    await assert.rejects(enable(callerOf('acme'), acme, 'no-uuid'), { code: 'api.not_found' });
    // What happens meanwhile is not sent later.
    await appendEventTo(services, acme, 2);
    status = 204;
    const enabled = await enable();
    assert.deepEqual([enabled.active, enabled.disabledReason], [true, undefined]);
    assert.equal((await enable()).active, true);
    await appendEventTo(services, acme, 3);
    await sender.wait(2);
    assert.deepEqual(sender.outcomes, ['disabled', 'delivered']);
    const audited = await tenants.audit(OPERATOR, { limit: 20, tenant: acme, ...inTime() });
    const entries = audited.filter(({ action }) => action === 'webhook.enable');
    assert.deepEqual(
      entries.map(({ target, actor, oldValue, newValue, requestId }) => ({
        target,
        actor,
        oldValue,
        newValue,
        requestId,
      })),
      [
        {
          target: webhook.id,
          actor: 'test:acme/tenant',
          oldValue: { active: false, disabledReason: 'it answered 410' },
          newValue: { active: true },
          requestId: 'request-1',
        },
      ],
    );
  });
});
