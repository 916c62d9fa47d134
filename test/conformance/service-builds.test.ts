import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { type BuildId, newBuildId, parseTenantName } from '../../src/core/ids.ts';
import { CALLER, call, IMAGE, serviceOn } from '../fixtures/build-service.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

forEachDatabase((_name, openTestDatabase) => {
  test('create() queues a build that get() shows in full', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const spec = { ...IMAGE, name: 'web', labels: { 'app/tier': 'front' }, priority: 3 };
    const { build, created } = await service.create(CALLER, tenant, spec, call());
    assert.equal(created, true);
    assert.equal(build.state, 'pending');
    assert.equal(build.name, 'web');
    assert.deepEqual(build.labels, { 'app/tier': 'front' });
    assert.deepEqual(build.spec, spec);
    assert.equal(build.timeoutMs, 900_000);
    assert.equal(build.waiting?.reason, 'no_executor');
    assert.deepEqual(await service.get(tenant, build.id, call()), build);
  });

  test('a build of another tenant reads like one that never was', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const own = await harness.tenant('acme');
    const other = await harness.tenant('umbrella');
    const { build } = await service.create(CALLER, own, IMAGE, call());
    for (const id of [build.id, newBuildId()]) {
      const faults = await Promise.all([
        faultOf(service.get(other, id, call())),
        faultOf(service.cancel(CALLER, other, id, call())),
        faultOf(service.delete(CALLER, other, id, { ...call(), force: true })),
        faultOf(service.artifacts(other, id, call())),
        faultOf(service.openArtifact(other, id, 'rootfs.ext4', call())),
        faultOf(service.readLog(other, id, { ...call(), from: 0, limit: 1 })),
      ]);
      assert.deepEqual(
        new Set(faults),
        new Set(['api.not_found Cannot find the build: there is none with this id']),
      );
    }
    assert.equal((await service.get(own, build.id, call())).state, 'pending');
  });

  test('list() gives pages that hold every build once, newest first, with the total', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1) {
      const labels = { parity: n % 2 === 0 ? 'even' : 'odd' };
      ids.push((await service.create(CALLER, tenant, { ...IMAGE, labels }, call())).build.id);
    }
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await service.list(
        tenant,
        { limit: 3, ...(cursor === undefined ? {} : { cursor }) },
        call(),
      );
      assert.equal(page.total, 7);
      seen.push(...page.builds.map(({ id }) => id));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    assert.deepEqual(seen, ids.toReversed());
    const even = await service.list(tenant, { limit: 500, labels: { parity: 'even' } }, call());
    assert.equal(even.total, 4);
    assert.equal(even.nextCursor, undefined);
    const none = await service.list(tenant, { limit: 10, states: ['failed', 'completed'] }, call());
    assert.deepEqual(none, { builds: [], total: 0 });
  });

  test('list() reads no image and no large configuration', async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await using harness = serviceOn(database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const made = async (wireConfig: string): Promise<BuildId> =>
      (await service.create(CALLER, tenant, IMAGE, { ...call(), wireConfig })).build.id;
    const small = await made('{"buildName":"small"}');
    const large = await made(JSON.stringify({ buildName: 'x'.repeat(60_000) }));
    await database.k
      .updateTable('builds')
      .set({ image: 'what no reader of images understands' })
      .execute();
    await assert.rejects(service.get(tenant, small, call()), { code: 'internal' });
    const { builds } = await service.list(tenant, { limit: 10 }, call());
    assert.deepEqual(
      builds.map(({ id, image, wireConfig }) => [id, image, wireConfig]),
      [
        [large, undefined, undefined],
        [small, undefined, '{"buildName":"small"}'],
      ],
    );
    const { recentBuilds } = await service.stats(tenant, {}, call());
    assert.deepEqual(
      recentBuilds.map(({ id }) => id),
      [large, small],
    );
  });

  test('list() ends a page of long texts early, and goes on where it ended', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const labels = Object.fromEntries(
      Array.from({ length: 64 }, (_, n) => [`label-${n}`, 'é'.repeat(1024)]),
    );
    const ids: string[] = [];
    for (let n = 0; n < 20; n += 1) {
      ids.push((await service.create(CALLER, tenant, { ...IMAGE, labels }, call())).build.id);
    }
    const seen: string[] = [];
    let pages = 0;
    let cursor: string | undefined;
    do {
      const page = await service.list(
        tenant,
        { limit: 500, ...(cursor === undefined ? {} : { cursor }) },
        call(),
      );
      const bytes = Buffer.byteLength(JSON.stringify(page.builds));
      assert.ok(bytes < 1.1 * 1024 ** 2, `a page of ${bytes} bytes`);
      seen.push(...page.builds.map(({ id }) => id));
      cursor = page.nextCursor;
      pages += 1;
    } while (cursor !== undefined);
    assert.deepEqual(seen, ids.toReversed());
    assert.ok(pages > 4, `${pages} pages`);
  });

  test('cancel() ends a build that waits, asks the executor of one that runs, and may be repeated', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const waits = (await service.create(CALLER, tenant, IMAGE, call())).build.id;
    const cancelled = await service.cancel(CALLER, tenant, waits, call());
    assert.equal(cancelled.state, 'cancelled');
    assert.ok(cancelled.finishedAt !== undefined);
    assert.deepEqual(await service.cancel(CALLER, tenant, waits, call()), cancelled);

    const runs = (await service.create(CALLER, tenant, IMAGE, call())).build.id;
    await harness.hold(runs);
    const asked = await service.cancel(CALLER, tenant, runs, call());
    assert.equal(asked.state, 'pulling');
    assert.equal(asked.cancelRequested, true);
    assert.deepEqual(await service.cancel(CALLER, tenant, runs, call()), asked);

    await harness.end(runs);
    const over = await service.cancel(CALLER, tenant, runs, call());
    assert.equal(over.state, 'completed');
    const events = await opened.database.k
      .selectFrom('events')
      .select('type')
      .orderBy('seq')
      .execute();
    assert.deepEqual(
      events.map(({ type }) => type),
      ['build.created', 'build.cancelled', 'build.created'],
    );
  });

  test('delete() refuses what runs, unless forced, and what it took is not there any more', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    await harness.hold(id);
    await assert.rejects(
      service.delete(CALLER, tenant, id, { ...call(), force: false }),
      hasCode('api.conflict'),
    );
    await service.delete(CALLER, tenant, id, { ...call(), force: true });
    await assert.rejects(service.get(tenant, id, call()), hasCode('api.not_found'));
    await assert.rejects(
      service.delete(CALLER, tenant, id, { ...call(), force: true }),
      hasCode('api.not_found'),
    );
    assert.equal((await service.list(tenant, { limit: 10 }, call())).total, 0);
    const row = await opened.database.k.selectFrom('builds').selectAll().executeTakeFirstOrThrow();
    assert.ok(row.cancel_requested_at !== null && row.deleted_at !== null);
    const audit = await opened.database.k.selectFrom('audit').select('action').execute();
    assert.deepEqual(
      audit.map(({ action }) => action),
      ['build.delete'],
    );
  });

  test('an idempotency key gives one build: again for the same request, a fault for another', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const options = { ...call(), idempotencyKey: 'once' };
    const spec = { ...IMAGE, name: 'a', labels: { x: '1', y: '2' } };
    const first = await service.create(CALLER, tenant, spec, options);
    const reordered = { labels: { y: '2', x: '1' }, name: 'a', source: IMAGE.source };
    const again = await service.create(CALLER, tenant, reordered, options);
    assert.equal(again.created, false);
    assert.equal(again.build.id, first.build.id);
    await assert.rejects(
      service.create(CALLER, tenant, { ...spec, name: 'b' }, options),
      hasCode('api.key_reused'),
    );
    const other = await harness.tenant('umbrella');
    assert.equal((await service.create(CALLER, other, spec, options)).created, true);
    const both = await Promise.all(
      Array.from({ length: 20 }, () =>
        service.create(CALLER, tenant, IMAGE, { ...call(), idempotencyKey: 'raced' }),
      ),
    );
    assert.equal(new Set(both.map(({ build }) => build.id)).size, 1);
    assert.equal(both.filter(({ created }) => created).length, 1);
  });

  test('of 200 creates at once with one place left, one is admitted', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme', { maxQueuedBuilds: 3 });
    await service.create(CALLER, tenant, IMAGE, call());
    await service.create(CALLER, tenant, IMAGE, call());
    const outcomes = await Promise.allSettled(
      Array.from({ length: 200 }, () => service.create(CALLER, tenant, IMAGE, call())),
    );
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    const codes = new Set(
      outcomes.flatMap((outcome) =>
        outcome.status === 'rejected' && isBuilderdError(outcome.reason)
          ? [`${outcome.reason.code} ${JSON.stringify(outcome.reason.details)}`]
          : [],
      ),
    );
    assert.deepEqual(
      [...codes],
      ['quota.exceeded {"quotaType":"queued_builds","current":3,"limit":3,"retryAfterSeconds":30}'],
    );
    assert.equal((await service.list(tenant, { limit: 10 }, call())).total, 3);
    const violations = await opened.database.k.selectFrom('quota_violations').selectAll().execute();
    assert.equal(violations.length, 1);
    assert.equal(violations[0]?.quota_type, 'queued_builds');
  });

  test('each quota refuses with its name and numbers', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const cases = [
      ['daily', { maxDailyBuilds: 1 }, {}, 'quota.exceeded daily_builds 1 1'],
      ['time', { maxBuildMinutes: 1 }, { timeoutSeconds: 61 }, 'quota.denied build_time 61 60'],
      [
        'disk',
        { maxDiskBytes: 2 ** 20 },
        { target: { sizeBytes: 2 ** 21 } },
        'quota.denied disk 2097152 1048576',
      ],
      ['registry', { allowedRegistries: ['ghcr.io'] }, {}, 'quota.denied network 1 0'],
      ['storage', { maxStorageBytes: 2 ** 20 }, {}, 'quota.exceeded storage 1048576 1048576'],
      ['compute', { maxDailyComputeMinutes: 1 }, {}, 'quota.exceeded compute 2 1'],
    ] as const;
    for (const [name, overrides, wish, want] of cases) {
      const tenant = await harness.tenant(name, overrides);
      if (name === 'daily') await service.create(CALLER, tenant, IMAGE, call());
      if (name === 'storage') {
        await database.k
          .updateTable('tenants')
          .set({ storage_bytes: 2 ** 20 })
          .where('id', '=', tenant.id)
          .execute();
      }
      if (name === 'compute') {
        await service.create(CALLER, tenant, IMAGE, call());
        await database.k
          .updateTable('usage_daily')
          .set({ build_ms: 125_000 })
          .where('tenant_id', '=', tenant.id)
          .execute();
      }
      const fault = await service.create(CALLER, tenant, { ...IMAGE, ...wish }, call()).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.ok(isBuilderdError(fault), name);
      const { quotaType, current, limit } = fault.details;
      assert.equal(`${fault.code} ${quotaType} ${current} ${limit}`, want);
    }
  });

  test('a suspended tenant creates nothing, and what it has waits for that reason', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    await database.k.updateTable('tenants').set({ suspended: 1 }).execute();
    await assert.rejects(service.create(CALLER, tenant, IMAGE, call()), hasCode('api.forbidden'));
    assert.equal((await service.get(tenant, id, call())).waiting?.reason, 'tenant_suspended');
  });

  test('a waiting build knows how many of its tenant are before it', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme', { maxConcurrentBuilds: 1 });
    const first = (await service.create(CALLER, tenant, IMAGE, call())).build.id;
    const second = (await service.create(CALLER, tenant, IMAGE, call())).build.id;
    const urgent = (await service.create(CALLER, tenant, { ...IMAGE, priority: 9 }, call())).build
      .id;
    await database.k
      .insertInto('executors')
      .values({
        id: 'e1',
        host: 'test',
        version: '1',
        capabilities: JSON.stringify({ slots: 2 }),
        draining: 0,
        started_at: database.now,
        heartbeat_at: database.now,
      })
      .execute();
    const page = await service.list(tenant, { limit: 10 }, call());
    assert.deepEqual(
      page.builds.map(({ id, waiting }) => [id, waiting?.reason, waiting?.ahead]),
      [
        [urgent, 'next', 0],
        [second, 'next', 2],
        [first, 'next', 1],
      ],
    );
    await harness.hold(urgent);
    const waiting = (await service.get(tenant, second, call())).waiting;
    assert.deepEqual(waiting, {
      reason: 'tenant_concurrency',
      ahead: 1,
      message: '1 of 1 builds of the tenant are running; 1 before it',
    });
  });

  test('git and archive sources are understood and refused as not supported', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const tenant = await harness.tenant('acme');
    for (const source of [
      { git: { url: 'https://github.com/a/b.git' } },
      { archive: { url: 'https://example.org/a.tar.gz' } },
    ]) {
      await assert.rejects(
        harness.service.create(CALLER, tenant, { source }, call()),
        hasCode('not_supported'),
      );
    }
  });

  test('a reader, and a caller of another tenant, change nothing', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    const callers = [
      { ...CALLER, role: 'reader' as const },
      { ...CALLER, role: 'tenant' as const, tenants: new Set([parseTenantName('umbrella')]) },
    ];
    for (const caller of callers) {
      await assert.rejects(service.create(caller, tenant, IMAGE, call()), hasCode('api.forbidden'));
      await assert.rejects(service.cancel(caller, tenant, id, call()), hasCode('api.forbidden'));
      await assert.rejects(
        service.delete(caller, tenant, id, { ...call(), force: true }),
        hasCode('api.forbidden'),
      );
    }
    assert.equal((await service.get(tenant, id, call())).state, 'pending');
  });

  test('stats() sums up the builds of the period', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme');
    for (const [state, ranMs] of [
      ['completed', 60_000],
      ['completed', 30_000],
      ['failed', 110_000],
    ] as const) {
      const { build } = await service.create(CALLER, tenant, IMAGE, call());
      await database.k
        .updateTable('builds')
        .set({ state, started_at: 1_000_000, finished_at: 1_000_000 + ranMs })
        .where('id', '=', build.id)
        .execute();
    }
    const { recentBuilds, ...stats } = await service.stats(tenant, {}, call());
    assert.deepEqual(stats, {
      totalBuilds: 3,
      successfulBuilds: 2,
      failedBuilds: 1,
      averageBuildMs: 45_000,
      totalStorageBytes: 0,
      totalComputeMinutes: 3,
    });
    assert.equal(recentBuilds.length, 3);
    assert.equal((await service.stats(tenant, { to: 1 }, call())).totalBuilds, 0);
  });
});

function hasCode(code: string): (reason: unknown) => boolean {
  return (reason) => isBuilderdError(reason) && reason.code === code;
}

async function faultOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'none',
    (reason: unknown) =>
      isBuilderdError(reason) ? `${reason.code} ${reason.message}` : String(reason),
  );
}
