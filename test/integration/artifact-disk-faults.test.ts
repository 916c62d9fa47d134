import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { newBuildId, type TenantId } from '../../src/core/ids.ts';
import type { StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import type { DurableIo } from '../../src/store/artifacts/durable-io.ts';
import { blobIndex, requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { checkStore } from '../../src/store/artifacts/check-store.ts';
import { type LocalStoreOptions, openLocalStore } from '../../src/store/artifacts/local-store.ts';
import type { StoreFinding } from '../../src/store/artifacts/store-finding.ts';
import { makeTenant, nameBlobs } from '../fixtures/artifact-rows.ts';
import {
  commitBytes,
  EMPTY_INDEX,
  listAll,
  newTenantId,
  privateDirectory,
  readBlob,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { openTestSqlite } from '../fixtures/databases.ts';
import { faultyDisk } from '../fixtures/faulty-disk.ts';
import { memoryTenantKeys } from '../fixtures/tenant-keys.ts';

/** A commit of 300 kB takes some thirty calls; more would mean that the count runs away. */
const MAX_CALLS = 300;

for (const encrypt of [false, true]) {
  for (const errno of ['EIO', 'ENOSPC']) {
    const form = encrypt ? 'encrypted' : 'plain';
    test(`every n-th call of a ${form} commit failing with ${errno} leaves no half artifact`, async () => {
      const tenantId = newTenantId();
      const keys = memoryTenantKeys();
      const bytes = someBytes(300_000);
      const failed = new Set<string>();
      for (let nth = 1, isOver = false; !isOver; nth += 1) {
        assert.ok(nth < MAX_CALLS, 'the commit never got through');
        const disk = faultyDisk(nth, errno);
        await using home = await privateDirectory();
        const shared = { directory: home.path, keys, index: EMPTY_INDEX };
        const outcome = await commitOnce({ ...shared, io: disk.io }, bytes, { tenantId, encrypt });
        await using sound = await openLocalStore(shared);
        if ('blob' in outcome) {
          // A fault while it was cleaning up may be survived; the artifact is whole then.
          assert.ok((await readBlob(sound, tenantId, outcome.blob)).equals(bytes), `call ${nth}`);
        } else {
          const code = isBuilderdError(outcome.reason) ? outcome.reason.code : 'untyped';
          const wanted = errno === 'ENOSPC' ? 'storage.full' : 'storage.failed';
          assert.equal(code, wanted, `call ${nth}, ${disk.failed}`);
        }
        // What is visible under a final name is whole, whether or not the commit said so.
        for (const file of await listAll(sound)) {
          assert.ok(file.kind === 'blob');
          const dataKeyId = encrypt ? (await keys.current(tenantId, { signal })).id : undefined;
          const named = { ...file, sizeBytes: bytes.length };
          const blob = dataKeyId === undefined ? named : { ...named, dataKeyId };
          assert.ok((await readBlob(sound, tenantId, blob)).equals(bytes), `call ${nth}`);
        }
        if (disk.failed !== undefined) failed.add(disk.failed);
        isOver = disk.failed === undefined;
      }
      for (const name of ['openNew', 'read', 'sync', 'seal', 'link'] as const) {
        assert.ok(failed.has(name), `${name} never failed`);
      }
    });
  }
}

async function commitOnce(
  options: LocalStoreOptions,
  bytes: Buffer,
  how: { readonly tenantId: TenantId; readonly encrypt: boolean },
): Promise<{ readonly blob: StoredBlob } | { readonly reason: unknown }> {
  try {
    await using store = await openLocalStore(options);
    return { blob: await commitBytes(store, bytes, how) };
  } catch (reason) {
    return { reason };
  }
}

test('a failed fsync stops all commits, also of the next process, until a check succeeds', async () => {
  await using home = await privateDirectory();
  const tenantId = newTenantId();
  const onlySync = (name: keyof DurableIo): boolean => name === 'sync';
  const disk = faultyDisk(1, 'EIO', onlySync);
  await using store = await openLocalStore({
    directory: home.path,
    io: disk.io,
    index: EMPTY_INDEX,
  });
  const good = someBytes(100);
  await assert.rejects(commitBytes(store, good, { tenantId }), { code: 'storage.failed' });
  assert.equal(store.health().kind, 'unhealthy');
  await assert.rejects(commitBytes(store, good, { tenantId }), /fsync failed.*builderd fsck/);
  await using next = await openLocalStore({ directory: home.path, index: EMPTY_INDEX });
  assert.equal(next.health().kind, 'unhealthy');
  await assert.rejects(commitBytes(next, good, { tenantId }), { code: 'storage.failed' });
  assert.deepEqual(await next.check({ signal }), { kind: 'healthy' });
  const blob = await commitBytes(next, good, { tenantId });
  assert.ok((await readBlob(store, tenantId, blob)).equals(good));
  // The first process learns that the check was made elsewhere.
  await commitBytes(store, good, { tenantId });
  assert.equal(store.health().kind, 'healthy');
});

test('a full disk fails the attempt and the next one, with space again, succeeds', async () => {
  await using home = await privateDirectory();
  const tenantId = newTenantId();
  const disk = faultyDisk(1, 'ENOSPC', (name) => name === 'sync');
  await using store = await openLocalStore({
    directory: home.path,
    io: disk.io,
    index: EMPTY_INDEX,
  });
  await assert.rejects(commitBytes(store, someBytes(10), { tenantId }), { code: 'storage.full' });
  assert.deepEqual(store.health(), { kind: 'healthy' });
  await commitBytes(store, someBytes(10), { tenantId });
});

test('a check that fails keeps the store closed', async () => {
  await using home = await privateDirectory();
  const disk = faultyDisk(2, 'EIO', (name) => name === 'sync');
  await using store = await openLocalStore({
    directory: home.path,
    io: disk.io,
    index: EMPTY_INDEX,
  });
  assert.equal((await store.check({ signal })).kind, 'unhealthy');
  assert.equal((await store.check({ signal })).kind, 'healthy');
});

test('a disk that cannot give an artifact back is damage to a check, and a fault to a reader', async () => {
  await using opened = await openTestSqlite();
  const { database } = opened;
  const tenantId = await makeTenant(database);
  await using home = await privateDirectory();
  await using store = await openLocalStore({
    directory: home.path,
    index: blobIndex(database),
  });
  const blob = await commitBytes(store, someBytes(1000), { tenantId, buildId: newBuildId() });
  await nameBlobs(database, tenantId, [blob]);
  const disk = faultyDisk(1, 'EIO', (name) => name === 'read');
  await using broken = await openLocalStore({
    directory: home.path,
    io: disk.io,
    index: EMPTY_INDEX,
  });
  await assert.rejects(readBlob(broken, tenantId, blob), { code: 'storage.failed' });
  const again = faultyDisk(1, 'EIO', (name) => name === 'read');
  await using checked = await openLocalStore({
    directory: home.path,
    io: again.io,
    index: EMPTY_INDEX,
  });
  const found: StoreFinding['kind'][] = [];
  await checkStore(database, checked, {
    depth: 'content',
    repair: true,
    signal,
    onFinding: ({ kind }) => found.push(kind),
  });
  assert.deepEqual(found, ['corrupt']);
  await assert.rejects(requireBlob(database, tenantId, blob.digest), { code: 'artifact.corrupt' });
});
