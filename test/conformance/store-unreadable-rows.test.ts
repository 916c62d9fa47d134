import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expireBuilds, KEEP, purgeDeleted } from '../../src/builds/executor/housekeeping.ts';
import { blobIndex } from '../../src/store/artifacts/blob-rows.ts';
import { scrubBlobs } from '../../src/store/artifacts/check-blobs.ts';
import { collectGarbage } from '../../src/store/artifacts/collect-garbage.ts';
import { findExpiredBuilds } from '../../src/store/artifacts/expired-builds.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { newBuildId } from '../../src/core/ids.ts';
import type { BuildState } from '../../src/core/build-state.ts';
import type { Log, LogFields } from '../../src/core/log.ts';
import type { Database } from '../../src/store/database.ts';
import { findEndedLogs } from '../../src/store/logs/find-ended-logs.ts';
import { reapExpired } from '../../src/store/queue/reap-expired.ts';
import { makeTenant, nameBlobs, releaseBuild } from '../fixtures/artifact-rows.ts';
import { commitBytes, listAll, privateDirectory, someBytes } from '../fixtures/artifact-stores.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { addBuild, addBuilds, addTenant, claim, mustClaim, signal } from '../fixtures/queue.ts';

const DAY_MS = 86_400_000;

/** Sorts before every id of ours. */
const BAD = '0-not-an-id';

/** What a disk, a person or an older program might have left in the place of an id. */
async function spoil(database: Database, id: string, bad = BAD): Promise<string> {
  await database.k.updateTable('builds').set({ id: bad }).where('id', '=', id).execute();
  return bad;
}

async function stateOf(database: Database, id: string): Promise<string> {
  const row = await database.k
    .selectFrom('builds')
    .select(['state', 'owner', 'id_slot', 'error_code'])
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
  assert.deepEqual([row.owner, row.id_slot], [null, null]);
  return `${row.state} ${row.error_code ?? ''}`.trim();
}

async function end(database: Database, ids: readonly string[], state: BuildState): Promise<void> {
  await database.k
    .updateTable('builds')
    .set((eb) => ({ state, finished_at: eb(database.now, '-', 100 * DAY_MS) }))
    .where('id', 'in', [...ids])
    .execute();
}

function collectingLog(ids: string[]): Log {
  const note = ({ buildId }: LogFields): void => void (buildId && ids.push(buildId));
  const quiet = (): void => undefined;
  const log: Log = { debug: quiet, info: quiet, warn: note, error: note, child: () => log };
  return log;
}

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: a build whose row cannot be read fails, and the next one is claimed`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenant = await addTenant(database, 'acme');
    const [first, good] = await addBuilds(database, tenant, 2);
    assert.ok(first !== undefined && good !== undefined);
    await spoil(database, first);
    const bad: string[] = [];
    const claimed = await claim(database, { onBadBuild: ({ id }) => bad.push(id) });
    assert.equal(claimed?.buildId, good);
    assert.deepEqual(bad, [BAD]);
    assert.equal(await stateOf(database, BAD), 'failed internal');
    assert.equal(await claim(database), undefined);
  });

  test(`${name}: a tenant whose events cannot be numbered keeps no other tenant waiting`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const broken = await addTenant(database, 'broken');
    const tenant = await addTenant(database, 'acme');
    await addBuild(database, broken);
    const good = await addBuild(database, tenant);
    await database.k
      .updateTable('tenants')
      .set({ event_seq: Number.MAX_SAFE_INTEGER })
      .where('id', '=', broken)
      .execute();
    const bad: string[] = [];
    const onBadTenant = (id: string): void => void bad.push(id);
    assert.equal((await claim(database, { onBadTenant }))?.buildId, good);
    assert.deepEqual(bad, [broken]);
    assert.equal(await claim(database), undefined);
  });

  test(`${name}: a webhook whose row cannot be read is stopped, and its tenant's builds start`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenant = await addTenant(database, 'acme');
    const build = await addBuild(database, tenant);
    await database.k
      .insertInto('webhooks')
      .values({
        id: newBuildId(),
        tenant_id: tenant,
        url: 'https://hooks.example.test/',
        events: '["no such event"]',
        sealed: Buffer.from('sealed'),
        active: 1,
        disabled_reason: null,
        last_at: null,
        last_status: null,
        last_error: null,
        last_success_at: null,
        created_at: 0,
        updated_at: 0,
      })
      .execute();
    assert.equal((await claim(database))?.buildId, build);
    const hooks = await database.k
      .selectFrom('webhooks')
      .select(['active', 'disabled_reason'])
      .execute();
    assert.deepEqual(hooks, [
      { active: 0, disabled_reason: 'the list of its events cannot be read' },
    ]);
  });

  test(`${name}: a held build whose row cannot be read does not keep others from being taken back`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenant = await addTenant(database, 'acme');
    await addBuilds(database, tenant, 3);
    const [one, two, three] = [
      await mustClaim(database),
      await mustClaim(database),
      await mustClaim(database),
    ];
    await spoil(database, one.buildId);
    await database.k
      .updateTable('builds')
      .set({ state: 'never heard of' })
      .where('id', '=', two.buildId)
      .execute();
    const bad: string[] = [];
    const options = { graceMs: 0, deadOwners: ['executor-1'], signal };
    const onBadBuild = ({ id }: { readonly id: string }): void => void bad.push(id);
    const reaped = await reapExpired(database, { ...options, onBadBuild });
    assert.deepEqual(
      reaped.map(({ buildId, outcome }) => [buildId, outcome]),
      [[three.buildId, 'pending']],
    );
    assert.deepEqual(bad, [BAD, two.buildId]);
    assert.equal(await stateOf(database, BAD), 'failed internal');
    assert.equal(await stateOf(database, two.buildId), 'failed internal');
    assert.deepEqual(await reapExpired(database, options), []);
  });

  test(`${name}: retention passes over tenants and builds that cannot be read`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const broken = await addTenant(database, 'broken');
    const tenant = await addTenant(database, 'acme');
    const builds = await addBuilds(database, tenant, 60);
    // Ids of a hundred days ago, in the same order.
    const old = builds.map((id) => `0190${id.slice(4)}`);
    for (const [index, id] of builds.entries()) {
      await spoil(database, id, index % 2 === 0 ? (old[index] ?? '') : `0-bad-${index}`);
    }
    const good = old.filter((_, index) => index % 2 === 0);
    const all = [...good, ...builds.map((_, index) => `0-bad-${index}`)];
    await end(database, all, 'completed');
    const theirs = await addBuild(database, broken);
    await end(database, [theirs], 'completed');
    await database.k
      .updateTable('tenants')
      .set({ overrides: '{"retentionDays":' })
      .where('id', '=', broken)
      .execute();

    const bad: string[] = [];
    const found = await findExpiredBuilds(database, {
      limit: 20,
      onBadRow: (id) => bad.push(id),
    });
    assert.deepEqual(
      found.map(({ buildId }) => buildId),
      good.slice(0, 20),
    );
    assert.ok(bad.includes(broken));
    assert.equal(bad.filter((id) => id.startsWith('0-bad')).length, 30);
    const told: string[] = [];
    const deps = { database, log: collectingLog(told) };
    assert.equal(await expireBuilds(deps, KEEP, { signal }), 30);
    assert.equal(await expireBuilds(deps, KEEP, { signal }), 0);
    assert.ok(told.includes('0-bad-1') && told.includes(broken));
    assert.equal(await purgeDeleted(deps, { signal }), 30);
  });

  test(`${name}: deleted builds and logs whose rows cannot be read are passed over and told of`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenant = await addTenant(database, 'acme');
    const builds = await addBuilds(database, tenant, 70);
    for (const [index, id] of builds.slice(0, 55).entries()) {
      await spoil(database, id, `0-bad-${index}`);
    }
    await database.k
      .updateTable('builds')
      .set({ state: 'failed', deleted_at: database.now })
      .execute();
    const told: string[] = [];
    const deps = { database, log: collectingLog(told) };
    assert.equal(await purgeDeleted(deps, { signal }), 15);
    assert.equal(told.length, 55);

    const [kept, other] = await addBuilds(database, tenant, 2);
    assert.ok(kept !== undefined && other !== undefined);
    const broken = await spoil(database, other, '0-log');
    for (const id of [kept, broken]) {
      await database.k
        .insertInto('log_segments')
        .values({
          build_id: id,
          first_entry: 0,
          entries: 1,
          attempt: 1,
          data: Buffer.from('{}\n'),
          created_at: 0,
        })
        .execute();
    }
    await database.k
      .updateTable('builds')
      .set({ state: 'failed' })
      .where('deleted_at', 'is', null)
      .execute();
    const page = await findEndedLogs(database, { after: '', limit: 10 });
    assert.deepEqual([page.logs.map(({ buildId }) => buildId), page.next], [[kept], '']);
    assert.deepEqual(
      page.unreadable.map(({ buildId }) => buildId),
      ['0-log'],
    );
  });

  test(`${name}: garbage collection and scrub go on behind rows that cannot be read`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await using home = await privateDirectory();
    await using store = await openLocalStore({ directory: home.path, index: blobIndex(database) });
    const tenantId = await makeTenant(database);
    const gone = await commitBytes(store, someBytes(400), { tenantId });
    await releaseBuild(database, tenantId, await nameBlobs(database, tenantId, [gone]));
    const row = { tenant_id: tenantId, stored_bytes: 1, kind: 'released', condemned_at: 0 };
    await database.k
      .insertInto('condemned_blobs')
      .values([
        { ...row, digest: 'sha256:../..', generation: 'x' },
        { ...row, digest: gone.digest, generation: gone.generation, tenant_id: 'not a tenant' },
      ])
      .execute();
    const bad: string[] = [];
    const report = await collectGarbage(database, store, {
      graceMs: 0,
      onBadCopy: (copy) => bad.push(copy),
      signal,
    });
    assert.deepEqual([report.removed, report.waiting, bad.length], [1, 0, 2]);
    assert.deepEqual(await listAll(store), []);

    const kept = await commitBytes(store, someBytes(500), { tenantId });
    await nameBlobs(database, tenantId, [kept]);
    await database.k
      .insertInto('blobs')
      .values({
        tenant_id: tenantId,
        digest: 'no digest',
        size_bytes: 1,
        stored_bytes: 1,
        generation: 'x',
        data_key_id: null,
        state: 'present',
        created_at: 0,
        verified_at: null,
      })
      .execute();
    const findings: string[] = [];
    const read = await scrubBlobs(database, store, {
      bytesPerSecond: 1 << 30,
      maxBytes: 1 << 30,
      onFinding: ({ kind }) => findings.push(kind),
      signal,
    });
    assert.deepEqual([read, findings], [500, ['unreadable']]);
  });
});
