import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import { type BuildState, NEXT_STATES } from '../../src/core/build-state.ts';
import type { Database } from '../../src/store/database.ts';
import { completeBuild } from '../../src/store/queue/complete-build.ts';
import type { Fenced } from '../../src/store/queue/claim.ts';
import { endBuild } from '../../src/store/queue/end-build.ts';
import { enterState } from '../../src/store/queue/enter-state.ts';
import { heartbeat } from '../../src/store/queue/heartbeat.ts';
import { readControls } from '../../src/store/queue/read-controls.ts';
import { reapExpired } from '../../src/store/queue/reap-expired.ts';
import { reportProgress } from '../../src/store/queue/report-progress.ts';
import { retryBuild } from '../../src/store/queue/retry-build.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import {
  addBuild,
  addBuilds,
  addTenant,
  claim,
  FACTS,
  mustClaim,
  signal,
  work,
} from '../fixtures/queue.ts';

const FAULT = new BuilderdError('source.unreachable', 'Cannot pull: the registry is away');

async function rowOf(database: Database, id: string) {
  return await database.k
    .selectFrom('builds')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
}

async function eventsOf(database: Database, id: string): Promise<readonly string[]> {
  const rows = await database.k
    .selectFrom('events')
    .select(['type', 'data'])
    .where('build_id', '=', id)
    .orderBy('seq')
    .execute();
  return rows.map(({ type, data }) => `${type} ${data}`);
}

async function stepsOf(database: Database, id: string): Promise<readonly string[]> {
  const rows = await database.k
    .selectFrom('steps')
    .selectAll()
    .where('build_id', '=', id)
    .orderBy('attempt')
    .orderBy('seq')
    .execute();
  return rows.map(
    ({ attempt, seq, state, outcome }) => `${attempt}.${seq} ${state} ${outcome ?? 'open'}`,
  );
}

/** The lease of a build ends, as if its executor had been silent for so long. */
async function expire(database: Database, id: string, agoMs = 100_000): Promise<void> {
  await database.k
    .updateTable('builds')
    .set((eb) => ({ lease_until: eb(database.now, '-', agoMs) }))
    .where('id', '=', id)
    .execute();
}

const isLost = (reason: unknown): boolean => isBuilderdError(reason, 'build.lost');

forEachDatabase((name, openTestDatabase) => {
  test(`claimBuild() on ${name} takes a build with lease, slot, deadline, step and event`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const id = await addBuild(database, tenantId, {
      timeoutMs: 5000,
      memoryBytes: 3,
      diskBytes: 4,
    });
    const found = await mustClaim(database, { quotaDefaults: { retentionDays: 12 } });
    const row = await rowOf(database, id);
    assert.deepEqual(
      { ...found, quotas: found.quotas.retentionDays },
      {
        buildId: id,
        tenantId,
        tenantName: 'acme',
        attempt: 1,
        slot: 0,
        spec: { source: { image: { reference: 'debian:12' } } },
        timeoutMs: 5000,
        deadlineAt: Number(row.started_at) + 5000,
        memoryBytes: 3,
        diskBytes: 4,
        quotas: 12,
        fenced: { buildId: id, attempt: 1, owner: 'executor-1' },
      },
    );
    assert.equal(row.state, 'pulling');
    assert.equal(Number(row.lease_until) - Number(row.started_at), 60_000);
    assert.deepEqual(await stepsOf(database, id), ['1.1 pulling open']);
    assert.deepEqual(await eventsOf(database, id), ['build.state {"state":"pulling","attempt":1}']);
    assert.equal(await claim(database), undefined);
  });

  test(`a build on ${name} goes through its states to completed, and leaves nothing held`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const id = await addBuild(database, tenantId);
    const { fenced } = await mustClaim(database);
    await work(database, fenced);
    await database.transaction((tx) => reportProgress(tx, fenced, { progress: 150.7 }), { signal });
    assert.equal((await rowOf(database, id)).progress, 99);
    await database.transaction((tx) => completeBuild(tx, fenced, FACTS), { signal });
    const row = await rowOf(database, id);
    const { state, owner, lease_until, id_slot, progress, image, source_digest } = row;
    assert.deepEqual(
      { state, owner, lease_until, id_slot, progress, image, source_digest },
      {
        state: 'completed',
        owner: null,
        lease_until: null,
        id_slot: null,
        progress: 100,
        image: '{"originalImage":"debian:12"}',
        source_digest: FACTS.sourceDigest,
      },
    );
    assert.deepEqual(await stepsOf(database, id), [
      '1.1 pulling done',
      '1.2 extracting done',
      '1.3 building done',
      '1.4 optimizing done',
    ]);
    assert.equal(
      (await eventsOf(database, id)).at(-1),
      'build.completed {"state":"completed","attempt":1}',
    );
    const secrets = await database.k.selectFrom('build_secrets').selectAll().execute();
    assert.deepEqual(secrets, []);
    const usage = await database.k.selectFrom('usage_daily').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual(
      [usage.builds_completed, usage.cpu_us, usage.pulled_bytes, usage.written_bytes],
      [1, 7, 11, 13],
    );
  });

  test(`enterState() on ${name} allows the moves of the table of states and no others`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const active = ['pulling', 'extracting', 'building', 'optimizing', 'cleaning'] as const;
    await addBuild(database, tenantId);
    const { fenced } = await mustClaim(database);
    for (const from of active) {
      for (const to of active) {
        await database.k
          .updateTable('builds')
          .set({ state: from })
          .where('id', '=', fenced.buildId)
          .execute();
        const legal: readonly BuildState[] = NEXT_STATES[from];
        const move = database.transaction(
          (tx) => enterState(tx, fenced, { state: to, step: '', progress: 1 }),
          { signal },
        );
        if (from === to || legal.includes(to)) {
          await move;
          assert.equal((await rowOf(database, fenced.buildId)).state, to);
        } else {
          await assert.rejects(move, { code: 'internal' }, `${from} to ${to}`);
        }
      }
    }
  });

  test(`an attempt that was taken over can write nothing on ${name}`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const id = await addBuild(database, tenantId);
    const { fenced: old } = await mustClaim(database);
    await work(database, old);
    await expire(database, id);
    const reaped = await reapExpired(database, { graceMs: 10_000, signal });
    assert.deepEqual(reaped, [
      { buildId: id, attempt: 1, owner: 'executor-1', host: 'host-1', outcome: 'pending' },
    ]);
    const mine = await mustClaim(database, { owner: 'executor-2', host: 'host-2' });
    assert.equal(mine.attempt, 2);
    await work(database, mine.fenced);
    const before = await everything(database);
    for (const fenced of [
      old,
      { ...old, owner: 'executor-2' },
      { ...old, attempt: 2 },
      { ...mine.fenced, attempt: 3 },
    ]) {
      await refusesAll(database, fenced);
    }
    assert.deepEqual(await everything(database), before);
    await database.transaction((tx) => completeBuild(tx, mine.fenced, FACTS), { signal });
    await refusesAll(database, mine.fenced);
  });

  test(`completeBuild() on ${name} refuses an attempt that has outlived its lease`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const id = await addBuild(database, tenantId);
    const { fenced } = await mustClaim(database);
    await work(database, fenced);
    await expire(database, id, 1);
    const late = database.transaction((tx) => completeBuild(tx, fenced, FACTS), { signal });
    await assert.rejects(late, isLost);
    const beats = await heartbeat(database, {
      owner: 'executor-1',
      claims: [fenced],
      leaseMs: 60_000,
    });
    assert.deepEqual(beats, [{ buildId: id, attempt: 1, lost: true, cancelRequested: false }]);
    assert.deepEqual(await reapExpired(database, { graceMs: 10_000, signal }), []);
  });

  test(`completeBuild() on ${name} refuses every state but optimizing`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await addBuild(database, await addTenant(database, 'acme'));
    const { fenced } = await mustClaim(database);
    const early = database.transaction((tx) => completeBuild(tx, fenced, FACTS), { signal });
    await assert.rejects(early, { code: 'internal' });
    assert.equal((await rowOf(database, fenced.buildId)).state, 'pulling');
  });

  test(`heartbeat() on ${name} prolongs own claims and tells of cancels and losses`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    await addBuilds(database, tenantId, 2);
    const [first, second] = [await mustClaim(database), await mustClaim(database)];
    await expire(database, first.buildId, -500);
    await database.k
      .updateTable('builds')
      .set((eb) => ({ cancel_requested_at: database.now, version: eb('version', '+', 1) }))
      .where('id', '=', second.buildId)
      .execute();
    const stale = { ...second.fenced, attempt: 7 };
    const beats = await heartbeat(database, {
      owner: 'executor-1',
      claims: [first.fenced, second.fenced],
      leaseMs: 30_000,
    });
    assert.deepEqual(
      beats.map(({ buildId, lost, cancelRequested }) => ({ buildId, lost, cancelRequested })),
      [
        { buildId: first.buildId, lost: false, cancelRequested: false },
        { buildId: second.buildId, lost: false, cancelRequested: true },
      ],
    );
    assert.equal(beats[0]?.deadlineAt, first.deadlineAt);
    const left = Number((await rowOf(database, first.buildId)).lease_until) - Date.now();
    assert.ok(left > 20_000 && left < 31_000, `${left} ms are left`);
    const others = await heartbeat(database, {
      owner: 'executor-2',
      claims: [first.fenced],
      leaseMs: 1,
    });
    assert.equal(others[0]?.lost, true);
    const old = await heartbeat(database, { owner: 'executor-1', claims: [stale], leaseMs: 1 });
    assert.equal(old[0]?.lost, true);
    const controls = await readControls(database, 'executor-1');
    assert.deepEqual([...controls.cancelled], [second.buildId]);
    assert.deepEqual([...controls.held.values()], [1, 1]);
  });

  test(`retryBuild() on ${name} waits as long as it was told and keeps the deadline`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const id = await addBuild(database, await addTenant(database, 'acme'));
    const first = await mustClaim(database);
    const outcome = await database.transaction(
      (tx) => retryBuild(tx, first.fenced, { delayMs: 60_000, error: FAULT }),
      { signal },
    );
    assert.equal(outcome, 'pending');
    assert.equal(await claim(database), undefined);
    await database.k.updateTable('builds').set({ not_before: 0 }).where('id', '=', id).execute();
    const second = await mustClaim(database);
    assert.deepEqual([second.attempt, second.deadlineAt], [2, first.deadlineAt]);
    assert.deepEqual(await stepsOf(database, id), ['1.1 pulling retried', '2.1 pulling open']);
  });

  test(`a build on ${name} is parked with its last error after three attempts`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const id = await addBuild(database, await addTenant(database, 'acme'));
    const outcomes = [];
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const { fenced } = await mustClaim(database);
      const retry = { delayMs: 0, error: FAULT };
      outcomes.push(await database.transaction((tx) => retryBuild(tx, fenced, retry), { signal }));
    }
    assert.deepEqual(outcomes, ['pending', 'pending', 'failed']);
    const row = await rowOf(database, id);
    assert.deepEqual([row.state, row.error_code], ['failed', 'source.unreachable']);
    assert.match(row.error_message ?? '', /it was tried 3 times; the last time: Cannot pull/);
    assert.equal(
      (await eventsOf(database, id)).at(-1),
      'build.failed {"state":"failed","attempt":3,"code":"source.unreachable"}',
    );
    assert.equal(await claim(database), undefined);
  });

  test(`a build on ${name} that kills its executors is parked as lost`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const id = await addBuild(database, await addTenant(database, 'acme'));
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      await mustClaim(database, { owner: `executor-${attempt}` });
      const reaped = await reapExpired(database, {
        graceMs: 10_000,
        deadOwners: [`executor-${attempt}`],
        signal,
      });
      assert.equal(reaped[0]?.outcome, attempt < 3 ? 'pending' : 'failed');
    }
    const row = await rowOf(database, id);
    assert.deepEqual([row.state, row.error_code, row.owner], ['failed', 'build.lost', null]);
  });

  test(`two executors that reap at once on ${name} take each lost build once`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const other = await opened.open();
    const ids = await addBuilds(database, await addTenant(database, 'acme'), 12);
    for (const _ of ids) await mustClaim(database);
    for (const id of ids) await expire(database, id);
    const reaped = await Promise.all(
      [database, other].map((each) => reapExpired(each, { graceMs: 10_000, signal })),
    );
    const taken = reaped.flat().map(({ buildId }) => buildId);
    assert.deepEqual(taken.toSorted(), [...ids]);
    const open = await database.k
      .selectFrom('attempts')
      .select('attempt')
      .where('finished_at', 'is', null)
      .execute();
    assert.deepEqual(open, []);
  });

  test(`handing a build back on ${name} does not count as an attempt of its own`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await addBuild(database, await addTenant(database, 'acme'));
    for (let round = 1; round <= 5; round += 1) {
      const { fenced, attempt } = await mustClaim(database);
      assert.equal(attempt, round);
      const retry = { delayMs: 0, error: FAULT, counted: false };
      const outcome = await database.transaction((tx) => retryBuild(tx, fenced, retry), { signal });
      assert.equal(outcome, 'pending');
    }
  });

  test(`a build on ${name} whose time is up or that was cancelled is not tried again`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const late = await addBuild(database, tenantId, { timeoutMs: 1 });
    const lateClaim = await mustClaim(database);
    const retry = { delayMs: 1000, error: FAULT };
    assert.equal(
      await database.transaction((tx) => retryBuild(tx, lateClaim.fenced, retry), { signal }),
      'failed',
    );
    assert.equal((await rowOf(database, late)).error_code, 'source.unreachable');
    const unwanted = await addBuild(database, tenantId);
    const { fenced } = await mustClaim(database);
    await database.k
      .updateTable('builds')
      .set({ cancel_requested_at: database.now })
      .where('id', '=', unwanted)
      .execute();
    assert.equal(
      await database.transaction((tx) => retryBuild(tx, fenced, retry), { signal }),
      'cancelled',
    );
    assert.equal((await rowOf(database, unwanted)).state, 'cancelled');
  });

  test(`leases on ${name} follow the clock of the database, not that of the process`, async (t) => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const id = await addBuild(database, await addTenant(database, 'acme'));
    const real = Date.now();
    t.mock.method(Date, 'now', () => real + 3_600_000);
    const { fenced } = await mustClaim(database);
    const lease = Number((await rowOf(database, id)).lease_until);
    assert.ok(
      Math.abs(lease - real - 60_000) < 30_000,
      `the lease ends ${lease - real} ms from now`,
    );
    assert.deepEqual(await reapExpired(database, { graceMs: 10_000, signal }), []);
    const [beat] = await heartbeat(database, { owner: fenced.owner, claims: [fenced], leaseMs: 1 });
    assert.equal(beat?.lost, false);
  });
});

/** Each way to write for an attempt throws `build.lost`. */
async function refusesAll(database: Database, fenced: Fenced): Promise<void> {
  const inside = (body: Parameters<Database['transaction']>[0]): Promise<unknown> =>
    database.transaction(body, { signal });
  const error = FAULT;
  await assert.rejects(
    inside((tx) => enterState(tx, fenced, { state: 'cleaning', step: '', progress: 1 })),
    isLost,
  );
  await assert.rejects(
    inside((tx) => reportProgress(tx, fenced, { progress: 98 })),
    isLost,
  );
  await assert.rejects(
    inside((tx) => completeBuild(tx, fenced, FACTS)),
    isLost,
  );
  await assert.rejects(
    inside((tx) => endBuild(tx, fenced, { state: 'failed', error })),
    isLost,
  );
  await assert.rejects(
    inside((tx) => endBuild(tx, fenced, { state: 'cancelled' })),
    isLost,
  );
  await assert.rejects(
    inside((tx) => retryBuild(tx, fenced, { delayMs: 0, error })),
    isLost,
  );
  const { buildId, attempt, owner } = fenced;
  const beats = await heartbeat(database, { owner, claims: [{ buildId, attempt }], leaseMs: 1 });
  assert.equal(beats[0]?.lost, true);
}

async function everything(database: Database): Promise<unknown> {
  const { k } = database;
  return [
    await k.selectFrom('builds').selectAll().orderBy('id').execute(),
    await k.selectFrom('attempts').selectAll().orderBy('attempt').execute(),
    await k.selectFrom('steps').selectAll().orderBy('attempt').orderBy('seq').execute(),
    await k.selectFrom('events').selectAll().orderBy('seq').execute(),
    await k.selectFrom('usage_daily').selectAll().execute(),
    await k.selectFrom('build_secrets').selectAll().execute(),
  ];
}
