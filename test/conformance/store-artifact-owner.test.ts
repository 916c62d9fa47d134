import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ArtifactStore } from '../../src/store/artifacts/artifact-store.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { requireOwnStore } from '../../src/store/artifacts/require-own-store.ts';
import { openS3Store } from '../../src/store/artifacts/s3-store.ts';
import type { Database } from '../../src/store/database.ts';
import { readDatabaseId } from '../../src/store/database-id.ts';
import { makeTenant, nameBlobs } from '../fixtures/artifact-rows.ts';
import {
  commitBytes,
  EMPTY_INDEX,
  listAll,
  newTenantId,
  privateDirectory,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { startS3Server, type S3Server } from '../fixtures/s3-server.ts';

let server: S3Server;
let prefixes = 0;

before(async () => {
  server = await startS3Server();
});

after(async () => {
  await server[Symbol.asyncDispose]();
});

const STORES: Readonly<Record<string, (directory: string) => Promise<ArtifactStore>>> = {
  'a directory': (directory) => openLocalStore({ directory, index: EMPTY_INDEX }),
  'a bucket': (directory) => {
    prefixes += 1;
    return openS3Store({
      s3: server.config,
      prefix: `owner-${prefixes}`,
      stagingDirectory: directory,
      index: EMPTY_INDEX,
      onCleanupFault: (reason) => assert.fail(String(reason)),
    });
  },
};

const NAME = 'the store';
const own = (database: Database, store: ArtifactStore, more: object = {}): Promise<void> =>
  requireOwnStore(database, store, { name: NAME, signal, ...more });
const refused = { code: 'config.invalid' };

forEachDatabase((name, openTestDatabase) => {
  for (const [kind, openStore] of Object.entries(STORES)) {
    test(`${name}: ${kind} that is unused becomes the database's, and is refused to any other`, async () => {
      await using one = await openTestDatabase();
      await using two = await openTestDatabase();
      await using home = await privateDirectory();
      await using store = await openStore(home.path);
      await own(one.database, store);
      await own(one.database, store);
      assert.equal(await store.readMark({ signal }), await readDatabaseId(one.database));
      assert.deepEqual(await listAll(store), [], 'the mark is no artifact and nothing foreign');
      await assert.rejects(own(two.database, store), refused);
      await assert.rejects(own(two.database, store, { readOnly: true }), refused);
      await own(two.database, store, { adopt: true });
      await own(two.database, store);
      await assert.rejects(own(one.database, store), refused);
    });

    test(`${name}: ${kind} in use without a mark is refused until it is adopted`, async () => {
      await using opened = await openTestDatabase();
      const { database } = opened;
      await using home = await privateDirectory();
      await using store = await openStore(home.path);
      await commitBytes(store, someBytes(100), { tenantId: newTenantId() });
      await own(database, store, { readOnly: true });
      await assert.rejects(own(database, store), { ...refused, message: /does not say of which/ });
      assert.equal(await store.readMark({ signal }), undefined);
      await own(database, store, { adopt: true });
      await own(database, store);
    });
  }

  test(`${name}: an empty directory is refused to a database that names artifacts: a disk that is not mounted`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await using home = await privateDirectory();
    await using disk = await openLocalStore({
      directory: join(home.path, 'disk'),
      index: EMPTY_INDEX,
    });
    await own(database, disk);
    const tenantId = await makeTenant(database);
    await nameBlobs(database, tenantId, [await commitBytes(disk, someBytes(100), { tenantId })]);
    await own(database, disk);
    await using empty = await openLocalStore({
      directory: join(home.path, 'mount-point'),
      index: EMPTY_INDEX,
    });
    await assert.rejects(own(database, empty), { ...refused, message: /is it mounted/ });
  });

  test(`${name}: two databases that find a store unused at once do not both get it`, async () => {
    await using one = await openTestDatabase();
    await using two = await openTestDatabase();
    await using home = await privateDirectory();
    await using store = await openLocalStore({ directory: home.path, index: EMPTY_INDEX });
    const both = await Promise.allSettled([own(one.database, store), own(two.database, store)]);
    assert.equal(both.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.deepEqual(await readdir(home.path), ['.builderd-store']);
  });

  test(`${name}: a mark that is not ours stops the start`, async () => {
    await using opened = await openTestDatabase();
    await using home = await privateDirectory();
    await using store = await openLocalStore({ directory: home.path, index: EMPTY_INDEX });
    const mark = join(home.path, '.builderd-store');
    await writeFile(mark, 'something else\n');
    await assert.rejects(own(opened.database, store), { code: 'storage.failed' });
    await rm(mark);
    await own(opened.database, store);
  });
});
