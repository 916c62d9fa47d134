import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  readQueueGauges,
  readStoredBytes,
  readTenantGauges,
} from '../../src/builds/metrics/database-gauges.ts';
import { addUsage } from '../../src/store/usage/add-usage.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { addBuilds, addTenant, mustClaim, signal } from '../fixtures/queue.ts';

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: an empty database has gauges of 0`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    assert.deepEqual(await readQueueGauges(database), { size: 0, oldestMs: 0 });
    assert.deepEqual(await readTenantGauges(database, { limit: 10 }), []);
    assert.equal(await readStoredBytes(database), 0);
  });

  test(`${name}: gauges tell what waits, what runs and what is used`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const acme = await addTenant(database, 'acme', {
      maxDailyBuilds: 77,
      maxStorageBytes: 2 ** 40,
    });
    const globex = await addTenant(database, 'globex');
    await addBuilds(database, acme, 3);
    await addBuilds(database, globex, 1);
    await mustClaim(database);
    await mustClaim(database);
    await database.transaction((tx) => addUsage(tx, acme, { buildsCreated: 5, buildMs: 90_000 }), {
      signal,
    });
    await database.k
      .updateTable('tenants')
      .set({ storage_bytes: 2 ** 33 })
      .where('id', '=', acme)
      .execute();
    await database.k
      .updateTable('tenants')
      .set({ storage_bytes: 1 })
      .where('id', '=', globex)
      .execute();

    const queue = await readQueueGauges(database);
    assert.equal(queue.size, 2);
    assert.ok(queue.oldestMs >= 0 && queue.oldestMs < 600_000, String(queue.oldestMs));
    assert.equal(await readStoredBytes(database), 2 ** 33 + 1);
    const gauges = new Map(
      (await readTenantGauges(database, { limit: 10 })).map((each) => [each.tenant, each]),
    );
    assert.deepEqual([...gauges.keys()].toSorted(), ['acme', 'globex']);
    const sum = (type: 'concurrent_builds' | 'queued_builds'): number =>
      [...gauges.values()].reduce((total, { usage }) => total + (usage[type] ?? 0), 0);
    assert.equal(sum('concurrent_builds'), 2);
    assert.equal(sum('queued_builds'), 2);
    assert.deepEqual(
      { ...gauges.get('acme')?.usage, concurrent_builds: 0, queued_builds: 0 },
      { concurrent_builds: 0, queued_builds: 0, daily_builds: 5, compute: 1.5, storage: 2 ** 33 },
    );
    assert.equal(gauges.get('acme')?.limits.daily_builds, 77);
    assert.equal(gauges.get('acme')?.limits.storage, 2 ** 40);
    assert.equal((await readTenantGauges(database, { limit: 1 })).length, 1);
  });
});
