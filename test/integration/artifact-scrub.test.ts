import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { scrubArtifacts } from '../../src/builds/executor/scrub.ts';
import { blobIndex, requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { makeTenant, nameBlobs } from '../fixtures/artifact-rows.ts';
import { commitBytes, privateDirectory, someBytes } from '../fixtures/artifact-stores.ts';
import { openTestSqlite, silentLog } from '../fixtures/databases.ts';

test('scrubArtifacts() counts and closes a damaged artifact, until it is told to stop', async () => {
  await using opened = await openTestSqlite();
  const { database } = opened;
  await using home = await privateDirectory();
  await using store = await openLocalStore({ directory: home.path, index: blobIndex(database) });
  const tenantId = await makeTenant(database);
  const sound = await commitBytes(store, someBytes(100_000), { tenantId });
  const lost = await commitBytes(store, someBytes(200_000), { tenantId });
  await nameBlobs(database, tenantId, [sound, lost]);
  const hex = lost.digest.slice(7);
  await rm(join(home.path, tenantId, 'sha256', hex.slice(0, 2), `${hex}.${lost.generation}`));
  const stop = new AbortController();
  let errors = 0;
  const metrics = {
    scrubErrors: (count: number) => {
      errors += count;
      stop.abort();
    },
  };
  const deps = { database, artifacts: store, metrics, log: silentLog };
  await scrubArtifacts(deps, { signal: stop.signal });
  assert.equal(errors, 1);
  const after = { code: 'artifact.missing' };
  await assert.rejects(requireBlob(database, tenantId, lost.digest), after);
  assert.equal((await requireBlob(database, tenantId, sound.digest)).state, 'present');
});
