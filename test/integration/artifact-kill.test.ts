import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { TenantId } from '../../src/core/ids.ts';
import type { ArtifactStore } from '../../src/store/artifacts/artifact-store.ts';
import { blobIndex, requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { checkStore } from '../../src/store/artifacts/check-store.ts';
import { collectGarbage } from '../../src/store/artifacts/collect-garbage.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import type { StoreFinding } from '../../src/store/artifacts/store-finding.ts';
import { sweepStaging } from '../../src/store/artifacts/sweep-staging.ts';
import type { Database } from '../../src/store/database.ts';
import { parseDigest } from '../../src/core/digest.ts';
import { ageCondemned, makeTenant } from '../fixtures/artifact-rows.ts';
import { listAll, privateDirectory, readBlob, signal } from '../fixtures/artifact-stores.ts';
import { openTestSqlite } from '../fixtures/databases.ts';

const ROUNDS = 8;
const DAY = 24 * 60 * 60_000;

/** Starts the committer, lets it name `after` builds and a random while more, and kills it. */
async function runAndKill(args: readonly string[], after: number): Promise<readonly string[]> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('../fixtures/artifact-committer.ts', import.meta.url)), ...args],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const closed = once(child, 'close');
  const lines: string[] = [];
  const output = createInterface(child.stdout);
  const begun = Promise.withResolvers<void>();
  output.on('line', (line) => {
    lines.push(line);
    if (lines.length >= after) begun.resolve();
  });
  child.once('exit', () => begun.resolve());
  await begun.promise;
  // Anywhere in the next commits: the point differs from round to round.
  await new Promise((done) => setTimeout(done, Math.random() * 60));
  child.kill('SIGKILL');
  const [code, killedBy] = await closed;
  assert.deepEqual([code, killedBy], [null, 'SIGKILL'], 'it died by itself');
  return lines;
}

async function check(database: Database, store: ArtifactStore, repair: boolean) {
  const found: StoreFinding[] = [];
  await checkStore(database, store, {
    depth: 'content',
    repair,
    signal,
    onFinding: (finding) => found.push(finding),
  });
  return found.map(({ kind }) => kind);
}

async function namedDigests(database: Database, tenantId: TenantId, buildId: string) {
  const rows = await database.k
    .selectFrom('build_artifacts')
    .select('digest')
    .where('build_id', '=', buildId)
    .where('tenant_id', '=', tenantId)
    .execute();
  return rows.map(({ digest }) => parseDigest(digest));
}

test('a kill at any point of commits loses nothing that was named, and leaves only what recovery removes', async () => {
  await using opened = await openTestSqlite();
  const { database, config } = opened;
  assert.ok(config.type === 'sqlite');
  await using home = await privateDirectory();
  const tenantId = await makeTenant(database);
  const named = new Set<string>();
  for (let round = 0; round < ROUNDS; round += 1) {
    const lines = await runAndKill([config.directory, home.path, tenantId], 1 + (round % 4));
    for (const line of lines) {
      const [word, buildId = ''] = line.split(' ');
      if (word === 'named') named.add(buildId);
      else named.delete(buildId);
    }
    await using store = await openLocalStore({
      directory: home.path,
      index: blobIndex(database),
    });
    assert.deepEqual(store.health(), { kind: 'healthy' });
    const found = await check(database, store, false);
    assert.deepEqual(
      found.filter((kind) => kind !== 'unnamed'),
      [],
      `round ${round}`,
    );
    for (const buildId of named) {
      const digests = await namedDigests(database, tenantId, buildId);
      assert.equal(digests.length, 2);
      for (const digest of digests) {
        const blob = await requireBlob(database, tenantId, digest);
        assert.equal((await readBlob(store, tenantId, blob)).length, blob.sizeBytes);
      }
    }
  }
  await using store = await openLocalStore({ directory: home.path, index: blobIndex(database) });
  await sweepStaging(database, store, { signal });
  assert.deepEqual(await store.stagedAttempts({ signal }), []);
  await collectGarbage(database, store, { graceMs: DAY, signal });
  await ageCondemned(database, DAY);
  await collectGarbage(database, store, { graceMs: DAY, signal });
  const blobs = await database.k.selectFrom('blobs').select('digest').execute();
  assert.equal((await listAll(store)).length, blobs.length);
  assert.deepEqual(await check(database, store, true), []);
  const again = await collectGarbage(database, store, { graceMs: DAY, signal });
  assert.deepEqual(again, {
    condemned: 0,
    removed: 0,
    removedBytes: 0,
    waiting: 0,
    waitingBytes: 0,
    foreign: [],
  });
});
