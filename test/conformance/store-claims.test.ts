import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuilderdError } from '../../src/core/errors.ts';
import {
  listExecutors,
  pruneExecutors,
  registerExecutor,
  removeExecutor,
} from '../../src/store/executors.ts';
import { endBuild } from '../../src/store/queue/end-build.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { addBuild, addBuilds, addTenant, claim, mustClaim, signal } from '../fixtures/queue.ts';

const FAULT = new BuilderdError('source.unreachable', 'Cannot pull: the registry is away');
const end = { state: 'failed', error: FAULT } as const;

forEachDatabase((name, openTestDatabase) => {
  test(`claimBuild() on ${name} takes higher priorities first, but only within a tenant`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const loud = await addTenant(database, 'loud');
    const quiet = await addTenant(database, 'quiet');
    const patient = await addBuild(database, quiet);
    const late = await addBuild(database, loud, { priority: -5 });
    const urgent = await addBuild(database, loud, { priority: 100 });
    const order: string[] = [];
    for (let n = 0; n < 3; n += 1) order.push((await mustClaim(database)).buildId);
    // The oldest first among tenants that are equal; then the tenant with less running.
    assert.deepEqual(order, [patient, urgent, late]);
  });

  test(`claimBuild() on ${name} shares a host by weight, and starts a newcomer at once`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const weights = { a: 100, b: 200, c: 400 };
    const counts = new Map<string, number>();
    for (const [tenant, weight] of Object.entries(weights)) {
      await addBuilds(database, await addTenant(database, tenant, { weight }), 30);
    }
    // One build at a time: nothing runs when the next is chosen.
    for (let n = 0; n < 35; n += 1) {
      const { fenced, tenantName } = await mustClaim(database, { maxConcurrent: 1 });
      counts.set(tenantName, (counts.get(tenantName) ?? 0) + 1);
      await database.transaction((tx) => endBuild(tx, fenced, end), { signal });
    }
    assert.deepEqual(Object.fromEntries(counts), { a: 5, b: 10, c: 20 });
    const newcomer = await addTenant(database, 'newcomer', { weight: 1 });
    await addBuild(database, newcomer);
    const next: string[] = [];
    for (let n = 0; n < 4; n += 1) next.push((await mustClaim(database)).tenantName);
    assert.ok(next.includes('newcomer'), next.join());
  });

  test(`claimBuild() on ${name} ignores what is cancelled, deleted, suspended or beyond a cap`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const capped = await addTenant(database, 'capped', { maxConcurrentBuilds: 1 });
    const suspended = await addTenant(database, 'suspended');
    const broken = await addTenant(database, 'broken');
    const [first] = await addBuilds(database, capped, 3);
    await addBuild(database, suspended);
    await addBuild(database, broken);
    await database.k
      .updateTable('tenants')
      .set({ suspended: 1 })
      .where('id', '=', suspended)
      .execute();
    await database.k
      .updateTable('tenants')
      .set({ overrides: '[' })
      .where('id', '=', broken)
      .execute();
    const bad: string[] = [];
    const options = { onBadTenant: (id: string) => void bad.push(id) };
    assert.equal((await mustClaim(database, options)).buildId, first);
    assert.equal(await claim(database, options), undefined);
    assert.deepEqual([...new Set(bad)], [broken]);
    await database.k
      .updateTable('tenants')
      .set({ suspended: 0 })
      .where('id', '=', suspended)
      .execute();
    await database.k
      .updateTable('builds')
      .set({ cancel_requested_at: 1 })
      .where('tenant_id', '=', suspended)
      .execute();
    assert.equal(await claim(database, options), undefined);
  });

  test(`claimBuild() on ${name} gives each build of a host a slot of its own and reuses it`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await addBuilds(database, await addTenant(database, 'acme'), 6);
    const slots = { slots: { count: 2 } };
    const [first, second] = [await mustClaim(database, slots), await mustClaim(database, slots)];
    assert.deepEqual([first.slot, second.slot], [0, 1]);
    assert.equal(await claim(database, slots), undefined);
    assert.equal((await mustClaim(database, { ...slots, host: 'host-2' })).slot, 0);
    await database.transaction((tx) => endBuild(tx, first.fenced, end), { signal });
    assert.equal((await mustClaim(database, slots)).slot, 0);
    assert.equal(await claim(database, { maxConcurrent: 2 }), undefined);
  });

  test(`claimBuild() on ${name} lets small builds pass a big one, but not for ever`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const big = await addBuild(database, await addTenant(database, 'big'), { memoryBytes: 100 });
    const smallTenant = await addTenant(database, 'small');
    const [small] = await addBuilds(database, smallTenant, 3, { memoryBytes: 10 });
    const room = { freeMemoryBytes: 50 };
    assert.equal((await mustClaim(database, room)).buildId, small);
    const longAgo = Date.now() - 3_600_000;
    await database.k
      .updateTable('builds')
      .set({ created_at: longAgo })
      .where('id', '=', big)
      .execute();
    assert.equal(await claim(database, room), undefined);
    assert.equal(await claim(database, { freeDiskBytes: 0 }), undefined);
    assert.equal((await mustClaim(database)).buildId, big);
  });

  test(`executors on ${name} are there for as long as they say so`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const presence = {
      id: 'e1',
      host: 'h1',
      version: '1',
      draining: false,
      capabilities: { slots: 3 },
    };
    await registerExecutor(database, presence);
    await registerExecutor(database, { ...presence, draining: true });
    await registerExecutor(database, { ...presence, id: 'e2' });
    const found = await listExecutors(database);
    assert.deepEqual(
      found.map(({ id, draining, capabilities }) => ({ id, draining, capabilities })),
      [
        { id: 'e1', draining: true, capabilities: { slots: 3 } },
        { id: 'e2', draining: false, capabilities: { slots: 3 } },
      ],
    );
    await removeExecutor(database, 'e1');
    await removeExecutor(database, 'e1');
    assert.equal(await pruneExecutors(database, { silentMs: 60_000 }), 0);
    await database.k.updateTable('executors').set({ heartbeat_at: 1 }).execute();
    assert.equal(await pruneExecutors(database, { silentMs: 60_000 }), 1);
    assert.deepEqual(await listExecutors(database), []);
  });
});
