import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { setTimeout as sleep } from 'node:timers/promises';
import { appendEvent } from '../../src/store/events/append-event.ts';
import { recordViolation } from '../../src/store/violations/record-violation.ts';
import { pruneEvents } from '../../src/store/events/prune-events.ts';
import { readEvents } from '../../src/store/events/read-events.ts';
import type { Database } from '../../src/store/database.ts';
import type { TenantRef } from '../../src/builds/service/caller.ts';
import type { EventView } from '../../src/builds/service/event-service.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { failingDatabase } from '../fixtures/failing-database.ts';
import { inTime, testServices } from '../fixtures/services.ts';

async function append(database: Database, tenant: TenantRef, nth: number): Promise<void> {
  const event = { tenantId: tenant.id, type: 'build.state', data: { nth } } as const;
  await database.transaction((tx) => appendEvent(tx, event), inTime());
  database.ring('events');
}

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: concurrent writers number a tenant's events from 1 without gaps`, async () => {
    await using opened = await openTestDatabase();
    const second = await opened.open();
    const services = testServices(opened.database);
    const [a, b] = [await services.tenant('a'), await services.tenant('b')];
    await Promise.all(
      Array.from({ length: 30 }, (_, nth) =>
        append(nth % 2 === 0 ? opened.database : second, nth % 3 === 0 ? b : a, nth),
      ),
    );
    const seqsOf = async (ref: TenantRef): Promise<number[]> =>
      (await readEvents(second, ref.id, { after: 0, limit: 100 })).map((event) => event.seq);
    assert.deepEqual(
      await seqsOf(a),
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    assert.deepEqual(
      await seqsOf(b),
      Array.from({ length: 10 }, (_, index) => index + 1),
    );
  });

  test(`${name}: a transaction that fails leaves no event and no hole`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const a = await testServices(database).tenant('a');
    await append(database, a, 1);
    const failed = database.transaction(async (tx) => {
      await appendEvent(tx, { tenantId: a.id, type: 'build.state', data: {} });
      throw new Error('meant');
    }, inTime());
    await assert.rejects(failed, /meant/);
    await append(database, a, 2);
    const events = await readEvents(database, a.id, { after: 0, limit: 9 });
    assert.deepEqual(
      events.map(({ seq, data }) => [seq, data['nth']]),
      [
        [1, 1],
        [2, 2],
      ],
    );
  });

  test(`${name}: followers in another process get every event once and in order`, async () => {
    await using opened = await openTestDatabase();
    const second = await opened.open();
    const a = await testServices(opened.database).tenant('a');
    const { events } = testServices(second);
    const total = 60;
    const stop = new AbortController();
    const follow = async (after: number): Promise<number[]> => {
      const seen: number[] = [];
      const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(30_000)]);
      for await (const batch of events.follow(a, { after, signal })) {
        seen.push(...batch.map((event) => event.seq));
        if (seen.at(-1) === total) break;
      }
      return seen;
    };
    const followers = [follow(0), follow(0), follow(40)];
    for (let nth = 0; nth < total; nth += 6) {
      await Promise.all(
        Array.from({ length: 6 }, (_, more) => append(opened.database, a, nth + more)),
      );
    }
    const [first, other, late] = await Promise.all(followers);
    const all = Array.from({ length: total }, (_, index) => index + 1);
    assert.deepEqual(first, all);
    assert.deepEqual(other, all);
    assert.deepEqual(late, all.slice(40));
    stop.abort();
  });

  test(`${name}: followers of many tenants are told of their own events only`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const signal = AbortSignal.timeout(30_000);
    const tenants = [
      await services.tenant('a'),
      await services.tenant('b'),
      await services.tenant('c'),
    ];
    const first = async (tenant: TenantRef): Promise<unknown> => {
      for await (const batch of services.events.follow(tenant, { after: 0, signal })) {
        return batch.map((event) => event.data['nth']);
      }
      return 'nothing';
    };
    const firsts = tenants.map(first);
    for (const [nth, tenant] of tenants.entries()) await append(opened.database, tenant, nth);
    assert.deepEqual(await Promise.all(firsts), [[0], [1], [2]]);
  });

  test(`${name}: a follower passes over what retention has taken, and does not spin`, async () => {
    await using opened = await openTestDatabase();
    const a = await testServices(opened.database).tenant('a');
    for (let nth = 1; nth <= 3; nth += 1) await append(opened.database, a, nth);
    await pruneEvents(opened.database, { olderThanMs: -60_000 });
    let asked = 0;
    const counting: Database = Object.create(opened.database, {
      k: {
        get: () => {
          asked += 1;
          return opened.database.k;
        },
      },
    });
    const { events } = testServices(counting);
    const signal = AbortSignal.timeout(30_000);
    const batches = events.follow(a, { after: 1, signal })[Symbol.asyncIterator]();
    const next = batches.next();
    // The hub tells of number 3, which is not there.
    opened.database.ring('events');
    await sleep(300);
    assert.ok(asked < 10, `asked ${asked} times`);
    await append(opened.database, a, 4);
    const { value } = await next;
    const batch: readonly EventView[] = value;
    assert.deepEqual(
      batch.map((event) => event.seq),
      [4],
    );
    await batches.return?.();
  });

  test(`${name}: a follower whose database goes away is told, and its place is free again`, async () => {
    await using opened = await openTestDatabase();
    const a = await testServices(opened.database).tenant('a');
    let isAway = false;
    const { events } = testServices(failingDatabase(opened.database, () => isAway));
    const signal = AbortSignal.timeout(30_000);
    const batches = events.follow(a, { after: 0, signal })[Symbol.asyncIterator]();
    await append(opened.database, a, 1);
    await batches.next();
    const next = batches.next();
    isAway = true;
    await assert.rejects(next, { code: 'database.unavailable' });
    isAway = false;
    const again = events.follow(a, { after: 0, signal })[Symbol.asyncIterator]();
    const { value } = await again.next();
    const batch: readonly EventView[] = value;
    assert.equal(batch.length, 1);
    await again.return?.();
  });

  test(`${name}: follow() ends with its signal and gives its place back`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const a = await services.tenant('a');
    for (let round = 0; round < 105; round += 1) {
      const stop = new AbortController();
      const batches = services.events.follow(a, { after: 0, signal: stop.signal });
      const next = batches[Symbol.asyncIterator]().next();
      stop.abort();
      assert.deepEqual(await next, { done: true, value: undefined });
    }
  });

  test(`${name}: read() checks its bounds`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const a = await services.tenant('a');
    for (const [after, limit] of [
      [-1, 1],
      [0.5, 1],
      [0, 0],
      [0, 501],
      [Number.NaN, 1],
    ] as const) {
      const read = services.events.read(a, { after, limit, ...inTime() });
      await assert.rejects(read, { code: 'api.invalid' });
    }
  });

  test(`${name}: pruneEvents() removes what is old, in batches, and nothing else`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const services = testServices(database);
    const [a, b] = [await services.tenant('a'), await services.tenant('b')];
    const violation = {
      tenantId: a.id,
      quotaType: 'storage',
      current: 1,
      limit: 1,
      message: 'x',
    } as const;
    await database.transaction((tx) => recordViolation(tx, violation), inTime());
    for (let nth = 0; nth < 5; nth += 1) await append(database, nth % 2 === 0 ? a : b, nth);
    const none = { events: 0, deliveries: 0, violations: 0 };
    assert.deepEqual(await pruneEvents(database, { olderThanMs: 60_000, batch: 2 }), none);
    await sql`update events set created_at = 1 where seq <= 2`.execute(database.k);
    const old = await pruneEvents(database, { olderThanMs: 60_000, batch: 2 });
    assert.deepEqual(old, { ...none, events: 4 });
    const left = await readEvents(database, a.id, { after: 0, limit: 9 });
    assert.deepEqual(
      left.map((event) => event.seq),
      [3, 4],
    );
    // In the future of the database's clock everything is old.
    const all = await pruneEvents(database, { olderThanMs: -60_000, batch: 2 });
    assert.deepEqual(all, { events: 2, deliveries: 0, violations: 1 });
    // Numbers go on where they were.
    await append(database, a, 9);
    const [next] = await readEvents(database, a.id, { after: 0, limit: 9 });
    assert.equal(next?.seq, 5);
  });
});
