import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { pruneEvents } from '../../src/store/events/prune-events.ts';
import { appendEvent } from '../../src/store/events/append-event.ts';
import {
  claimDeliveries,
  type ClaimedDelivery,
  finishDelivery,
} from '../../src/store/webhooks/delivery-rows.ts';
import { callerOf } from '../fixtures/callers.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { failingDatabase } from '../fixtures/failing-database.ts';
import { inTime, testServices } from '../fixtures/services.ts';
import { startWebhookReceiver } from '../fixtures/webhook-receiver.ts';
import { appendEventTo, hookOf, startSender } from '../fixtures/webhook-sender.ts';

const WANTED = ['build.completed', 'build.failed'] as const;

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: a webhook gets the events it asked for, signed, and can prove it`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver();
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const { webhook, secret } = await services.events.createWebhook(
      callerOf('acme'),
      acme,
      { url: receiver.url, events: WANTED },
      inTime(),
    );
    await opened.database.transaction(
      (tx) => appendEvent(tx, { tenantId: acme.id, type: 'build.state', data: {} }),
      inTime(),
    );
    await appendEventTo(services, acme, 1);
    await using sender = startSender(opened.database, receiver.host);
    await sender.wait(1);
    const [request, ...others] = receiver.received;
    assert.deepEqual(others, []);
    assert.deepEqual(sender.outcomes, ['delivered']);
    const body: unknown = JSON.parse(request?.body ?? '');
    const id = request?.headers['builderd-delivery'];
    const at = (await services.events.read(acme, { after: 1, limit: 1, ...inTime() }))[0]?.at ?? 0;
    assert.deepEqual(body, {
      id,
      type: 'build.completed',
      tenant: 'acme',
      seq: 2,
      at: new Date(at).toISOString(),
      data: { nth: 1, text: 'ä"' },
    });
    assert.equal(request?.method, 'POST');
    assert.equal(request?.headers['builderd-event'], 'build.completed');
    assert.equal(request?.headers['content-type'], 'application/json');
    const header = request?.headers['builderd-signature'];
    const [, seconds = '', mac = ''] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(header)) ?? [];
    assert.ok(Math.abs(Number(seconds) - Date.now() / 1000) < 60);
    const want = createHmac('sha256', secret).update(`${seconds}.${request?.body ?? ''}`);
    assert.equal(mac, want.digest('hex'));
    const seen = await hookOf(services, acme);
    assert.deepEqual([seen?.id, seen?.lastDelivery?.status], [webhook.id, 204]);
  });

  test(`${name}: a receiver that fails is tried again with the same delivery id`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver((response, _, nth) =>
      response.writeHead(nth < 3 ? 500 : 200).end('x'.repeat(100_000)),
    );
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const wish = { url: receiver.url, events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    await using sender = startSender(opened.database, receiver.host);
    await sender.wait(3);
    assert.deepEqual(sender.outcomes, ['retried', 'retried', 'delivered']);
    const ids = receiver.received.map((request) => request.headers['builderd-delivery']);
    assert.deepEqual([ids.length, new Set(ids).size], [3, 1]);
    assert.equal((await hookOf(services, acme))?.active, true);
  });

  test(`${name}: a receiver that takes nothing at all is disabled, with the reason, and audited`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver((response) => response.writeHead(503).end());
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const wish = { url: receiver.url, events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    await using sender = startSender(opened.database, receiver.host);
    await sender.wait(4);
    assert.deepEqual(sender.outcomes, ['retried', 'retried', 'retried', 'disabled']);
    const hook = await hookOf(services, acme);
    assert.equal(hook?.active, false);
    assert.match(hook?.disabledReason ?? '', /^4 attempts failed: it answered 503$/);
    assert.deepEqual(hook?.lastDelivery?.status, 503);
    const [last] = await services.tenants.audit(callerOf('acme'), {
      limit: 1,
      tenant: acme,
      ...inTime(),
    });
    assert.equal(last?.action, 'webhook.disable');
    // Nothing is queued for it any more.
    await appendEventTo(services, acme, 2);
    const waiting = await opened.database.k
      .selectFrom('webhook_deliveries')
      .select('id')
      .where('next_at', 'is not', null)
      .execute();
    assert.deepEqual(waiting, []);
  });

  test(`${name}: 410 disables at once`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver((response) => response.writeHead(410).end());
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const wish = { url: receiver.url, events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    await using sender = startSender(opened.database, receiver.host);
    await sender.wait(1);
    assert.deepEqual(sender.outcomes, ['disabled']);
    assert.equal((await hookOf(services, acme))?.active, false);
  });

  test(`${name}: redirects are not followed, slow receivers are left, private addresses not dialled`, async () => {
    await using opened = await openTestDatabase();
    await using trap = await startWebhookReceiver();
    await using redirecting = await startWebhookReceiver((response) =>
      response.writeHead(307, { location: trap.url }).end(),
    );
    await using slow = await startWebhookReceiver(() => undefined);
    await using dripping = await startWebhookReceiver((response) => {
      response.writeHead(200).write('x');
    });
    const allowed = [redirecting, slow, dripping].map((each) => each.host).join(',');
    const services = testServices(opened.database, { egressAllow: `127.0.0.1/32` });
    const cases = [
      ['redirect', redirecting.url, 'it answered 307; redirects are not followed', 307],
      ['slow', slow.url, 'no answer in 0.4 s', undefined],
      ['drip', dripping.url, 'no answer in 0.4 s', undefined],
      ['private', trap.url, 'its address is not public', undefined],
      ['name', 'http://localhost:1/', 'its address is not public', undefined],
    ] as const;
    for (const [tenantName, url] of cases) {
      const tenant = await services.tenant(tenantName);
      const wish = { url, events: WANTED };
      await services.events.createWebhook(callerOf(tenantName), tenant, wish, inTime());
      await appendEventTo(services, tenant, 1);
    }
    await using sender = startSender(opened.database, allowed, {
      retries: { maxAttempts: 1, firstMs: 1, longestMs: 1 },
      timeoutMs: 400,
    });
    await sender.wait(cases.length);
    for (const [tenantName, , error, status] of cases) {
      const ref = await services.tenants.resolve(callerOf(tenantName), undefined, inTime());
      const last = (await hookOf(services, ref))?.lastDelivery;
      assert.deepEqual([last?.error, last?.status], [error, status], tenantName);
    }
    assert.deepEqual(trap.received, []);
  });

  test(`${name}: two processes share the deliveries, each is sent once`, async () => {
    await using opened = await openTestDatabase();
    const second = await opened.open();
    await using receiver = await startWebhookReceiver();
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    for (let nth = 0; nth < 4; nth += 1) {
      const wish = { url: `${receiver.url}/${nth}`, events: WANTED };
      await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    }
    await using one = startSender(opened.database, receiver.host);
    await using two = startSender(second, receiver.host);
    for (let nth = 0; nth < 10; nth += 1) await appendEventTo(services, acme, nth);
    await receiver.wait(40);
    const deadline = Date.now() + 60_000;
    while (one.outcomes.length + two.outcomes.length < 40 && Date.now() < deadline) await sleep(10);
    assert.deepEqual(new Set([...one.outcomes, ...two.outcomes]), new Set(['delivered']));
    const ids = receiver.received.map((request) => request.headers['builderd-delivery']);
    assert.deepEqual([ids.length, new Set(ids).size], [40, 40]);
  });

  test(`${name}: a process that lost its claim writes nothing over the other's outcome`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver((response, _, nth) => {
      // While the first is still waiting for its answer, its claim runs out.
      if (nth === 1) setTimeout(() => response.writeHead(500).end(), 700);
      else response.writeHead(204).end();
    });
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const wish = { url: receiver.url, events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    await using first = startSender(opened.database, receiver.host);
    await receiver.wait(1);
    await sql`update webhook_deliveries set next_at = 1`.execute(opened.database.k);
    const other = await opened.open();
    await using second = startSender(other, receiver.host);
    await second.wait(1);
    await first.wait(1);
    assert.deepEqual([first.outcomes, second.outcomes], [['lost'], ['delivered']]);
    assert.equal((await hookOf(services, acme))?.lastDelivery?.status, 204);
  });

  test(`${name}: only the holder of the newest claim ends a delivery`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const services = testServices(database);
    const acme = await services.tenant('acme');
    const wish = { url: 'https://example.com/', events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    const claim = () =>
      claimDeliveries(database, { limit: 5, perTenant: 5, busy: new Map(), ...inTime() });
    const [old, ...others] = await claim();
    assert.deepEqual(others, []);
    assert.deepEqual(await claim(), []);
    await sql`update webhook_deliveries set next_at = 1`.execute(database.k);
    const [current] = await claim();
    assert.ok(old !== undefined && current !== undefined);
    assert.deepEqual([old.id, old.attempt, current.attempt], [current.id, 1, 2]);
    const end = (claimed: ClaimedDelivery) =>
      database.transaction((tx) => finishDelivery(tx, claimed, { delivered: true }), inTime());
    assert.equal(await end(old), false);
    assert.equal(await end(current), true);
    assert.equal(await end(current), false);
  });

  test(`${name}: stopping hands an attempt back at once`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver((response, _, nth) => {
      if (nth > 1) response.writeHead(204).end();
    });
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const wish = { url: receiver.url, events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    {
      await using first = startSender(opened.database, receiver.host);
      await receiver.wait(1);
      assert.deepEqual(first.outcomes, []);
    }
    await using second = startSender(opened.database, receiver.host);
    await second.wait(1);
    assert.deepEqual(second.outcomes, ['delivered']);
  });

  test(`${name}: a delivery whose event is gone is given up, and goes when it is old`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const services = testServices(database);
    const acme = await services.tenant('acme');
    const wish = { url: 'https://example.com/', events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    const pruned = await pruneEvents(database, { olderThanMs: -60_000 });
    assert.deepEqual(pruned, { events: 1, deliveries: 0, violations: 0 });
    await using sender = startSender(database, '');
    await sender.wait(1);
    assert.deepEqual(sender.outcomes, ['given_up']);
    assert.equal((await hookOf(services, acme))?.lastDelivery?.error, 'the event is too old');
    assert.equal((await hookOf(services, acme))?.active, true);
    assert.equal((await pruneEvents(database, { olderThanMs: -60_000 })).deliveries, 1);
  });

  test(`${name}: the loop goes on when the database was away`, async () => {
    await using opened = await openTestDatabase();
    await using receiver = await startWebhookReceiver();
    const services = testServices(opened.database, { egressAllow: receiver.host });
    const acme = await services.tenant('acme');
    const wish = { url: receiver.url, events: WANTED };
    await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    let refused = 0;
    const failing = failingDatabase(opened.database, () => (refused += 1) <= 1);
    await using sender = startSender(failing, receiver.host);
    await sender.wait(1);
    assert.deepEqual(sender.outcomes, ['delivered']);
  });

  test(`${name}: a deleted webhook gets nothing, and its deliveries go with it`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const acme = await services.tenant('acme');
    const wish = { url: 'https://example.com/', events: WANTED };
    const { webhook } = await services.events.createWebhook(callerOf('acme'), acme, wish, inTime());
    await appendEventTo(services, acme, 1);
    await services.events.deleteWebhook(callerOf('acme'), acme, webhook.id, inTime());
    const rows = await opened.database.k.selectFrom('webhook_deliveries').selectAll().execute();
    assert.deepEqual(rows, []);
    for (const id of [webhook.id, 'no-uuid']) {
      const again = services.events.deleteWebhook(callerOf('acme'), acme, id, inTime());
      await assert.rejects(again, { code: 'api.not_found' });
    }
  });

  test(`${name}: createWebhook() refuses bad URLs, bad events and too many`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const acme = await services.tenant('acme');
    const create = (url: string, events: readonly (typeof WANTED)[number][]) =>
      services.events.createWebhook(callerOf('acme'), acme, { url, events }, inTime());
    const refused = [
      ['http://169.254.169.254/latest', WANTED],
      ['ftp://example.com', WANTED],
      ['https://example.com/', []],
      ['https://example.com/', JSON.parse('["build.exploded"]')],
    ] as const;
    for (const [url, events] of refused) {
      await assert.rejects(create(url, events), { code: 'api.invalid' });
    }
    for (let nth = 0; nth < 20; nth += 1) await create(`https://example.com/${nth}`, WANTED);
    await assert.rejects(create('https://example.com/', WANTED), { code: 'api.conflict' });
  });
});
