import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BuildState } from '../../src/core/build-state.ts';
import { type BuildId, newBuildId, parseBuildId, type TenantId } from '../../src/core/ids.ts';
import { blobIndex } from '../../src/store/artifacts/blob-rows.ts';
import { checkStore } from '../../src/store/artifacts/check-store.ts';
import { collectGarbage } from '../../src/store/artifacts/collect-garbage.ts';
import { findExpiredBuilds } from '../../src/store/artifacts/expired-builds.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { sweepStaging } from '../../src/store/artifacts/sweep-staging.ts';
import { insertBuild } from '../../src/store/builds/insert-build.ts';
import type { Database } from '../../src/store/database.ts';
import { ageCondemned, makeTenant, nameBlobs, releaseBuild } from '../fixtures/artifact-rows.ts';
import { commitBytes, listAll, privateDirectory, signal } from '../fixtures/artifact-stores.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

const DAY = 24 * 60 * 60_000;

async function putBuild(
  database: Database,
  tenantId: TenantId,
  facts: {
    readonly id?: BuildId;
    readonly state?: BuildState;
    readonly attempt?: number;
    readonly owner?: string;
    readonly finishedMsAgo?: number;
    readonly deleted?: boolean;
  },
): Promise<BuildId> {
  const { id = newBuildId(), state = 'completed', attempt = 1, finishedMsAgo } = facts;
  await database.transaction(
    async (tx) => {
      await insertBuild(tx, {
        id,
        tenantId,
        name: '',
        labels: {},
        priority: 0,
        requestJson: '{}',
        wireConfig: undefined,
        traceParent: undefined,
        createdBy: 'a test',
        timeoutMs: 1000,
        memoryBytes: 1,
        diskBytes: 1,
        sealedSecrets: undefined,
      });
      await tx.k
        .updateTable('builds')
        .set((eb) => ({
          state,
          attempt,
          owner: facts.owner ?? null,
          finished_at: finishedMsAgo === undefined ? null : eb(tx.now, '-', finishedMsAgo),
          deleted_at: facts.deleted === true ? tx.now : null,
        }))
        .where('id', '=', id)
        .execute();
    },
    { signal },
  );
  return id;
}

/** An id that was made that long ago. */
function idFrom(msAgo: number): BuildId {
  const hex = (Date.now() - msAgo).toString(16).padStart(12, '0');
  return parseBuildId(`${hex.slice(0, 8)}-${hex.slice(8)}${newBuildId().slice(13)}`);
}

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: findExpiredBuilds() goes by each tenant's retention and the end of the build`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const free = await makeTenant(database, 'free');
    const keeper = await makeTenant(database, 'keeper');
    await database.k
      .updateTable('tenants')
      .set({ overrides: '{"retentionDays":90}' })
      .where('id', '=', keeper)
      .execute();
    const put = (tenantId: TenantId, days: number, more: object = {}): Promise<BuildId> =>
      putBuild(database, tenantId, { id: idFrom(days * DAY), finishedMsAgo: days * DAY, ...more });
    const old = await put(free, 31);
    await put(free, 29);
    await put(free, 40, { deleted: true });
    await put(free, 40, { finishedMsAgo: DAY });
    await putBuild(database, free, { id: idFrom(50 * DAY), state: 'pending' });
    await put(keeper, 60);
    const older = await put(keeper, 100, { state: 'failed' });
    const found = await findExpiredBuilds(database, { limit: 10 });
    assert.deepEqual(new Set(found.map(({ buildId }) => buildId)), new Set([old, older]));
    assert.equal((await findExpiredBuilds(database, { limit: 1 })).length, 1);
    const shorter = await findExpiredBuilds(database, {
      limit: 10,
      defaults: { retentionDays: 20 },
    });
    assert.equal(shorter.length, 3);
  });

  test(`${name}: sweepStaging() removes what dead attempts staged and nothing of a live one`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await using home = await privateDirectory();
    await using store = await openLocalStore({ directory: home.path, index: blobIndex(database) });
    const tenantId = await makeTenant(database);
    const live = await putBuild(database, tenantId, { state: 'building', attempt: 2, owner: 'e' });
    const over = await putBuild(database, tenantId, { finishedMsAgo: 0 });
    const queued = await putBuild(database, tenantId, { state: 'pending' });
    const gone = newBuildId();
    const handles = [];
    for (const [buildId, attempt] of [
      [live, 1],
      [live, 2],
      [over, 1],
      [queued, 1],
      [gone, 1],
    ] as const) {
      const staged = await store.stage({ buildId, attempt, name: 'rootfs.ext4' }, { signal });
      await staged.handle.writeFile('half');
      handles.push(staged.handle);
    }
    const dry = await sweepStaging(database, store, { dryRun: true, signal });
    assert.equal(dry.length, 4);
    assert.equal((await store.stagedAttempts({ signal })).length, 5);
    await sweepStaging(database, store, { signal });
    assert.deepEqual(await store.stagedAttempts({ signal }), [{ buildId: live, attempt: 2 }]);
    assert.deepEqual(await sweepStaging(database, store, { signal }), []);
    for (const handle of handles) await handle.close();
  });

  test(`${name}: whatever builds commit and release, accounts, rows and files agree`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    let run = 0;
    const step = fc.oneof(
      fc.record({ kind: fc.constant('commit' as const), content: fc.nat({ max: 4 }) }),
      fc.record({ kind: fc.constant('abandon' as const), content: fc.nat({ max: 4 }) }),
      fc.record({ kind: fc.constant('release' as const), content: fc.nat() }),
      fc.record({ kind: fc.constant('collect' as const), content: fc.nat({ max: 1 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), async (steps) => {
        run += 1;
        await using home = await privateDirectory();
        await using store = await openLocalStore({
          directory: home.path,
          index: blobIndex(database),
        });
        for (const table of ['blobs', 'condemned_blobs', 'build_artifacts'] as const) {
          await database.k.deleteFrom(table).execute();
        }
        await database.k.updateTable('tenants').set({ storage_bytes: 0 }).execute();
        const tenantId = await makeTenant(database, `tenant-${run}`);
        const builds: BuildId[] = [];
        for (const { kind, content } of steps) {
          if (kind === 'release') {
            const [build] = builds.splice(content % (builds.length || 1), 1);
            if (build !== undefined) await releaseBuild(database, tenantId, build);
          } else if (kind === 'collect') {
            if (content === 1) await ageCondemned(database, DAY);
            await collectGarbage(database, store, { graceMs: DAY, signal });
          } else {
            const blob = await commitBytes(store, Buffer.alloc(100 + content, content), {
              tenantId,
            });
            if (kind === 'commit') builds.push(await nameBlobs(database, tenantId, [blob]));
          }
        }
        const found: string[] = [];
        await checkStore(database, store, {
          depth: 'content',
          repair: false,
          signal,
          onFinding: (finding) => found.push(finding.kind),
        });
        assert.deepEqual(
          found.filter((each) => each !== 'unnamed'),
          [],
        );
        for (const build of builds) await releaseBuild(database, tenantId, build);
        await collectGarbage(database, store, { graceMs: DAY, signal });
        await ageCondemned(database, DAY);
        await collectGarbage(database, store, { graceMs: DAY, signal });
        assert.deepEqual(await listAll(store), []);
      }),
      { numRuns: 12 },
    );
  });
});
