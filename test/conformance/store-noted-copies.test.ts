import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sweepScratch } from '../../src/builds/executor/sweep-scratch.ts';
import { newBuildId, newId } from '../../src/core/ids.ts';
import type { CommitOptions, StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import { insertArtifacts } from '../../src/store/artifacts/artifact-rows.ts';
import { blobIndex, noteBlobState, requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { collectGarbage } from '../../src/store/artifacts/collect-garbage.ts';
import { readReleasedBytes } from '../../src/store/artifacts/condemned-rows.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import {
  discardCopies,
  noteCopy,
  requireNoted,
  sweepCopies,
} from '../../src/store/artifacts/noted-copies.ts';
import { attemptGeneration } from '../../src/store/artifacts/stored-name.ts';
import { nameBlobs, releaseBuild } from '../fixtures/artifact-rows.ts';
import { listAll, privateDirectory, someBytes } from '../fixtures/artifact-stores.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { addBuild, addTenant, mustClaim, signal } from '../fixtures/queue.ts';

forEachDatabase((name, openTestDatabase) => {
  const openBoth = async () => {
    const opened = await openTestDatabase();
    const { database } = opened;
    const home = await privateDirectory();
    const store = await openLocalStore({ directory: home.path, index: blobIndex(database) });
    const tenantId = await addTenant(database, 'acme');
    const commit = async (
      attempt: { readonly buildId: ReturnType<typeof newBuildId>; readonly attempt: number },
      bytes: Uint8Array,
      announce?: CommitOptions['announce'],
    ): Promise<StoredBlob> => {
      await using staged = await store.stage({ ...attempt, name: 'rootfs.ext4' }, { signal });
      await staged.handle.writeFile(bytes);
      const note = (blob: StoredBlob): Promise<void> => noteCopy(database, tenantId, blob);
      const options = { tenantId, encrypt: false, announce: announce ?? note, signal };
      return await store.commit(staged, options);
    };
    return {
      database,
      store,
      tenantId,
      commit,
      async [Symbol.asyncDispose]() {
        await store[Symbol.asyncDispose]();
        await opened[Symbol.asyncDispose]();
        await home[Symbol.asyncDispose]();
      },
    };
  };

  test(`${name}: a copy is noted before it is there, and none is stored that cannot be noted`, async () => {
    await using both = await openBoth();
    const { database, store, commit } = both;
    const attempt = { buildId: newBuildId(), attempt: 1 };
    const failing = commit(attempt, someBytes(100), async () => {
      assert.deepEqual(await listAll(store), []);
      throw new Error('the database is away');
    });
    await assert.rejects(failing);
    assert.deepEqual(await listAll(store), []);
    await commit(attempt, someBytes(100));
    const rows = await database.k.selectFrom('condemned_blobs').select('kind').execute();
    assert.deepEqual(rows, [{ kind: 'pending' }]);
  });

  test(`${name}: discardCopies() removes what the attempt stored and nothing that has a name`, async () => {
    await using both = await openBoth();
    const { database, store, tenantId, commit } = both;
    const attempt = { buildId: newBuildId(), attempt: 3 };
    const generation = attemptGeneration(attempt);
    await commit({ ...attempt, attempt: 2 }, someBytes(90));
    await commit(attempt, someBytes(100));
    const named = await commit(attempt, someBytes(110));
    const buildId = await nameBlobs(database, tenantId, [named]);
    assert.equal(await discardCopies(database, store, { tenantId, generation }, { signal }), 1);
    assert.equal((await listAll(store)).length, 2);
    // Released, it may be downloaded still: its time is the garbage collection's.
    await releaseBuild(database, tenantId, buildId);
    assert.equal(await readReleasedBytes(database, tenantId), 110);
    assert.equal(await discardCopies(database, store, { tenantId, generation }, { signal }), 0);
    assert.equal((await listAll(store)).length, 2);
    const grace = { graceMs: 86_400_000, releasedGraceMs: 0, signal };
    assert.equal((await collectGarbage(database, store, grace)).removed, 1);
    assert.equal(await readReleasedBytes(database, tenantId), 0);
  });

  test(`${name}: sweepCopies() removes what dead attempts stored and nothing of a live one`, async () => {
    await using both = await openBoth();
    const { database, store, tenantId, commit } = both;
    await addBuild(database, tenantId);
    const live = await mustClaim(database);
    const kept = await commit(live.fenced, someBytes(100));
    await commit({ buildId: live.buildId, attempt: 7 }, someBytes(110));
    await commit({ buildId: newBuildId(), attempt: 1 }, someBytes(120));
    assert.equal(await sweepCopies(database, store, { dryRun: true, signal }), 2);
    assert.equal((await listAll(store)).length, 3);
    assert.equal(await sweepCopies(database, store, { signal }), 2);
    assert.equal(await sweepCopies(database, store, { signal }), 0);
    const left = await listAll(store);
    assert.deepEqual(
      left.map((file) => (file.kind === 'blob' ? file.generation : file.name)),
      [kept.generation],
    );
  });

  test(`${name}: a copy that was removed or damaged meanwhile gets no name`, async () => {
    await using both = await openBoth();
    const { database, store, tenantId, commit } = both;
    const bytes = someBytes(100);
    const first = await commit({ buildId: newBuildId(), attempt: 1 }, bytes);
    const buildId = await nameBlobs(database, tenantId, [first]);
    const again = await commit({ buildId: newBuildId(), attempt: 1 }, bytes);
    assert.equal(again.generation, first.generation, 'it was taken up again');
    const complete = (): Promise<void> =>
      database.transaction(
        async (tx) => {
          await requireNoted(tx, tenantId, [again]);
          const artifact = { name: 'a', format: 'ext4', mediaType: 'a/b', blob: again };
          await insertArtifacts(tx, { tenantId, buildId: newBuildId(), artifacts: [artifact] });
        },
        { signal },
      );
    const blob = await requireBlob(database, tenantId, first.digest);
    assert.ok(await noteBlobState(database, blob, 'corrupt'));
    await assert.rejects(complete(), { code: 'service.unavailable' });
    assert.ok(await noteBlobState(database, blob, 'present'));
    await complete();
    await database.k.deleteFrom('build_artifacts').where('build_id', '<>', buildId).execute();
    await releaseBuild(database, tenantId, buildId);
    await collectGarbage(database, store, { graceMs: 0, signal });
    await assert.rejects(complete(), { code: 'service.unavailable' });
    assert.deepEqual(await database.k.selectFrom('blobs').select('digest').execute(), []);
  });
});

test('sweepScratch() removes what dead makers left, and nothing fresh or foreign', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'builderd-scratch-'));
  try {
    const dead = ['.scratch.0123456789ab.partial', `.builderd-blob-${newId()}`];
    const kept = ['.scratch.ba9876543210.partial', 'executor.lock', '.scratch.x.partial'];
    const long = new Date(Date.now() - 3_600_000);
    for (const file of [...dead, ...kept]) {
      await writeFile(join(directory, file), 'x');
      if (file !== kept[0]) await utimes(join(directory, file), long, long);
    }
    assert.equal(await sweepScratch(directory, { signal }), 2);
    assert.deepEqual((await readdir(directory)).toSorted(), kept.toSorted());
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
