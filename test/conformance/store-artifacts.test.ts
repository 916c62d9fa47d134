import assert from 'node:assert/strict';
import { readFile, truncate, unlink, writeFile, chmod, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { parseDigest } from '../../src/core/digest.ts';
import { newId, parseTenantId, type TenantId } from '../../src/core/ids.ts';
import type { ArtifactStore, StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import {
  blobIndex,
  findBlob,
  noteBlobState,
  requireBlob,
} from '../../src/store/artifacts/blob-rows.ts';
import { scrubBlobs } from '../../src/store/artifacts/check-blobs.ts';
import { checkStore } from '../../src/store/artifacts/check-store.ts';
import { collectGarbage } from '../../src/store/artifacts/collect-garbage.ts';
import { findOverdue } from '../../src/store/artifacts/condemned-rows.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { reencryptBlobs } from '../../src/store/artifacts/reencrypt-blobs.ts';
import { storageByTenant } from '../../src/store/artifacts/storage-usage.ts';
import type { StoreFinding } from '../../src/store/artifacts/store-finding.ts';
import { freshGeneration } from '../../src/store/artifacts/stored-name.ts';
import { createTenantKeys } from '../../src/store/artifacts/tenant-keys.ts';
import type { Database } from '../../src/store/database.ts';
import { newMasterKeyText, parseMasterKeys } from '../../src/store/secrets/master-keys.ts';
import { createSealedSecrets } from '../../src/store/secrets/sealed-secrets.ts';
import {
  ageCondemned,
  makeTenant,
  nameBlobs,
  releaseBuild,
  storageBytes,
} from '../fixtures/artifact-rows.ts';
import {
  commitBytes,
  listAll,
  privateDirectory,
  readBlob,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { forEachDatabase, type OpenTestDatabase } from '../fixtures/databases.ts';

const DAY = 24 * 60 * 60_000;

/** A database and a local store with encryption, as one service has them. */
async function openBoth(openTestDatabase: OpenTestDatabase) {
  const opened = await openTestDatabase();
  const home = await privateDirectory();
  const { database } = opened;
  const secrets = createSealedSecrets(parseMasterKeys(newMasterKeyText(), 'a test'));
  const keys = createTenantKeys(database, secrets);
  const store = await openLocalStore({ directory: home.path, keys, index: blobIndex(database) });
  return {
    opened,
    database,
    store,
    keys,
    root: home.path,
    tenantId: await makeTenant(database),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

async function findingsOf(
  database: Database,
  store: ArtifactStore,
  options: { readonly depth?: 'size' | 'content'; readonly repair?: boolean } = {},
): Promise<readonly StoreFinding['kind'][]> {
  const { depth = 'content', repair = false } = options;
  const found: StoreFinding['kind'][] = [];
  await checkStore(database, store, {
    depth,
    repair,
    signal,
    onFinding: ({ kind }) => found.push(kind),
  });
  return found.toSorted();
}

const pathOf = (root: string, tenantId: TenantId, { digest, generation }: StoredBlob): string =>
  join(root, tenantId, 'sha256', digest.slice(7, 9), `${digest.slice(7)}.${generation}`);

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: insertArtifacts() counts the same bytes of a tenant once`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const other = await makeTenant(database, 'other');
    const bytes = someBytes(5000);
    const first = await commitBytes(store, bytes, { tenantId });
    const build = await nameBlobs(database, tenantId, [first]);
    const second = await commitBytes(store, bytes, { tenantId });
    assert.equal(second.generation, first.generation, 'the known copy is taken');
    const again = await nameBlobs(database, tenantId, [second, second]);
    await nameBlobs(database, other, [await commitBytes(store, bytes, { tenantId: other })]);
    assert.equal(await storageBytes(database, tenantId), 5000);
    assert.equal(await storageBytes(database, other), 5000);
    assert.equal(await releaseBuild(database, tenantId, build), 0);
    assert.equal(await storageBytes(database, tenantId), 5000);
    assert.equal(await releaseBuild(database, other, again), 0, 'a build of another tenant');
    assert.equal(await releaseBuild(database, tenantId, again), 5000);
    assert.equal(await releaseBuild(database, tenantId, again), 0, 'a repeat');
    assert.equal(await storageBytes(database, tenantId), 0);
    assert.equal(await findBlob(database, tenantId, first.digest), undefined);
    await assert.rejects(requireBlob(database, tenantId, first.digest), {
      code: 'artifact.missing',
    });
  });

  test(`${name}: a copy that two builds made at once is kept once, the other condemned`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const bytes = someBytes(3000);
    const one = await commitBytes(store, bytes, { tenantId });
    const two = await commitBytes(store, bytes, { tenantId });
    assert.notEqual(one.generation, two.generation);
    await nameBlobs(database, tenantId, [one]);
    await nameBlobs(database, tenantId, [two]);
    assert.equal((await findBlob(database, tenantId, one.digest))?.generation, two.generation);
    const overdue = await findOverdue(database, { graceMs: 0, limit: 10 });
    assert.deepEqual(
      overdue.map(({ generation }) => generation),
      [one.generation],
    );
    assert.equal(await storageBytes(database, tenantId), 3000);
  });

  test(`${name}: releasing and naming the same bytes at once never leaves an artifact without them`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const second = await both.opened.open();
    const bytes = someBytes(1000);
    let build = await nameBlobs(database, tenantId, [
      await commitBytes(store, bytes, { tenantId }),
    ]);
    for (let round = 0; round < 15; round += 1) {
      const blob = await commitBytes(store, bytes, { tenantId });
      const [next] = await Promise.all([
        nameBlobs(second, tenantId, [blob]),
        releaseBuild(database, tenantId, build),
      ]);
      build = next;
      const found = await requireBlob(database, tenantId, blob.digest);
      assert.ok((await readBlob(store, tenantId, found)).equals(bytes));
      assert.equal(await storageBytes(database, tenantId), 1000);
    }
  });

  test(`${name}: collectGarbage() removes what is condemned only after the grace period`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const kept = await commitBytes(store, someBytes(100), { tenantId });
    await nameBlobs(database, tenantId, [kept]);
    const released = await commitBytes(store, someBytes(200), { tenantId });
    const build = await nameBlobs(database, tenantId, [released]);
    await releaseBuild(database, tenantId, build);
    const orphan = await commitBytes(store, someBytes(300), { tenantId });
    const options = { graceMs: DAY, signal };
    const dry = await collectGarbage(database, store, { ...options, dryRun: true });
    assert.deepEqual([dry.condemned, dry.removed, dry.waiting], [1, 0, 1]);
    const first = await collectGarbage(database, store, options);
    assert.deepEqual([first.condemned, first.removed, first.waiting], [1, 0, 2]);
    assert.equal(first.waitingBytes, 500);
    assert.deepEqual(await collectGarbage(database, store, options), { ...first, condemned: 0 });
    await ageCondemned(database, DAY);
    const due = await collectGarbage(database, store, { ...options, dryRun: true });
    assert.deepEqual([due.removed, due.removedBytes, due.waiting], [2, 500, 0]);
    const last = await collectGarbage(database, store, options);
    assert.deepEqual([last.removed, last.removedBytes, last.waiting], [2, 500, 0]);
    assert.equal(await store.storedSize(tenantId, kept, { signal }), 100);
    for (const gone of [released, orphan]) {
      assert.equal(await store.storedSize(tenantId, gone, { signal }), undefined);
    }
    assert.deepEqual(await findingsOf(database, store), []);
  });

  test(`${name}: a commit that garbage collection saw before its row is pardoned by the row`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const blob = await commitBytes(store, someBytes(400), { tenantId });
    await collectGarbage(database, store, { graceMs: DAY, signal });
    await nameBlobs(database, tenantId, [blob]);
    await ageCondemned(database, 2 * DAY);
    const report = await collectGarbage(database, store, { graceMs: DAY, signal });
    assert.deepEqual([report.condemned, report.removed, report.waiting], [0, 0, 0]);
    assert.equal(await store.storedSize(tenantId, blob, { signal }), 400);
  });

  test(`${name}: a named copy is never removed, even when it is wrongly condemned`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const blob = await commitBytes(store, someBytes(400), { tenantId });
    await nameBlobs(database, tenantId, [blob]);
    await database.k
      .insertInto('condemned_blobs')
      .values({
        tenant_id: tenantId,
        digest: blob.digest,
        generation: blob.generation,
        kind: 'found',
        stored_bytes: 400,
        condemned_at: 0,
      })
      .execute();
    const report = await collectGarbage(database, store, { graceMs: DAY, signal });
    assert.deepEqual([report.removed, report.waiting], [0, 0]);
    assert.equal(await store.storedSize(tenantId, blob, { signal }), 400);
  });

  test(`${name}: checkStore() finds each kind of damage, and a repair is believed by the second run`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId, root } = both;
    const sizes = [1000, 2000, 3000, 4000, 5000, 6000] as const;
    const blobs: StoredBlob[] = [];
    for (const size of sizes) {
      const encrypt = size === 4000;
      blobs.push(await commitBytes(store, someBytes(size), { tenantId, encrypt }));
    }
    const [sound, missing, flipped, sealed, short, unnamed] = blobs;
    assert.ok(sound && missing && flipped && sealed && short && unnamed);
    await nameBlobs(database, tenantId, [sound, missing, flipped, sealed, short]);
    assert.deepEqual(await findingsOf(database, store), ['unnamed']);
    await unlink(pathOf(root, tenantId, missing));
    for (const blob of [flipped, sealed]) {
      const path = pathOf(root, tenantId, blob);
      const bytes = await readFile(path);
      bytes[700] = (bytes[700] ?? 0) ^ 1;
      await chmod(path, 0o600);
      await writeFile(path, bytes);
    }
    await truncate(pathOf(root, tenantId, short), 100);
    await writeFile(join(root, 'README'), 'left by a person');
    await database.k
      .updateTable('tenants')
      .set({ storage_bytes: 1 })
      .where('id', '=', tenantId)
      .execute();
    assert.deepEqual(await findingsOf(database, store, { depth: 'size' }), [
      'corrupt',
      'foreign',
      'miscounted',
      'missing',
      'unnamed',
    ]);
    const all = ['corrupt', 'corrupt', 'corrupt', 'foreign', 'miscounted', 'missing', 'unnamed'];
    assert.deepEqual(await findingsOf(database, store), all, 'nothing was repaired');
    assert.deepEqual(await findingsOf(database, store, { repair: true }), all);
    const damage = ['corrupt', 'corrupt', 'corrupt', 'foreign', 'missing'];
    assert.deepEqual(await findingsOf(database, store, { repair: true }), damage);
    assert.equal(await storageBytes(database, tenantId), 15_000);
    for (const [blob, code] of [
      [missing, 'artifact.missing'],
      [flipped, 'artifact.corrupt'],
      [sealed, 'artifact.corrupt'],
      [short, 'artifact.corrupt'],
    ] as const) {
      await assert.rejects(requireBlob(database, tenantId, blob.digest), { code });
    }
    assert.equal((await requireBlob(database, tenantId, sound.digest)).state, 'present');
  });

  test(`${name}: a new build heals a blob that is gone, also when nobody has noticed yet`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId, root } = both;
    const bytes = someBytes(2000);
    const lost = await commitBytes(store, bytes, { tenantId });
    await nameBlobs(database, tenantId, [lost]);
    await unlink(pathOf(root, tenantId, lost));
    await nameBlobs(database, tenantId, [await commitBytes(store, bytes, { tenantId })]);
    const found = await requireBlob(database, tenantId, lost.digest);
    assert.ok((await readBlob(store, tenantId, found)).equals(bytes));
    assert.equal(await storageBytes(database, tenantId), 2000);
    assert.deepEqual(await findingsOf(database, store), []);
  });

  test(`${name}: a new build of the same bytes heals a damaged blob`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId, root } = both;
    const bytes = someBytes(2000);
    const lost = await commitBytes(store, bytes, { tenantId });
    await nameBlobs(database, tenantId, [lost]);
    await unlink(pathOf(root, tenantId, lost));
    await findingsOf(database, store, { repair: true });
    const renewed = await commitBytes(store, bytes, { tenantId });
    await nameBlobs(database, tenantId, [renewed]);
    const found = await requireBlob(database, tenantId, lost.digest);
    assert.equal(found.generation, renewed.generation);
    assert.ok((await readBlob(store, tenantId, found)).equals(bytes));
    assert.equal(await storageBytes(database, tenantId), 2000);
    assert.deepEqual(await findingsOf(database, store), []);
  });

  test(`${name}: bytes that come back, as from a backup, make a missing blob present again`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId, root } = both;
    const bytes = someBytes(2000);
    const blob = await commitBytes(store, bytes, { tenantId });
    await nameBlobs(database, tenantId, [blob]);
    const path = pathOf(root, tenantId, blob);
    await unlink(path);
    assert.deepEqual(await findingsOf(database, store, { repair: true }), ['missing']);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, bytes);
    assert.deepEqual(await findingsOf(database, store, { repair: true }), ['healed']);
    assert.deepEqual(await findingsOf(database, store), []);
    assert.equal((await requireBlob(database, tenantId, blob.digest)).state, 'present');
  });

  test(`${name}: checkStore() gives an artifact without a blob row one that says it is missing`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const blob = await commitBytes(store, someBytes(2000), { tenantId });
    await nameBlobs(database, tenantId, [blob]);
    const stray = await commitBytes(store, someBytes(10), { tenantId });
    const build = await nameBlobs(database, tenantId, [stray]);
    await database.k.deleteFrom('blobs').where('digest', '=', blob.digest).execute();
    await database.k.deleteFrom('build_artifacts').where('build_id', '=', build).execute();
    const found = ['missing', 'miscounted', 'unbacked', 'unnamed', 'unreferenced'];
    assert.deepEqual(
      (await findingsOf(database, store, { repair: true })).filter((kind) => kind !== 'miscounted'),
      found.filter((kind) => kind !== 'miscounted'),
    );
    await findingsOf(database, store, { repair: true });
    assert.deepEqual(await findingsOf(database, store), ['missing']);
    await assert.rejects(requireBlob(database, tenantId, blob.digest), {
      code: 'artifact.missing',
    });
    assert.equal(await findBlob(database, tenantId, stray.digest), undefined);
  });

  test(`${name}: scrubBlobs() reads what was not read for longest, up to its limit`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId, root } = both;
    const blobs: StoredBlob[] = [];
    for (let index = 0; index < 4; index += 1) {
      blobs.push(await commitBytes(store, someBytes(1000 + index), { tenantId }));
    }
    await nameBlobs(database, tenantId, blobs);
    for (const [index, blob] of blobs.entries()) {
      await database.k
        .updateTable('blobs')
        .set({ verified_at: 1000 - index })
        .where('digest', '=', blob.digest)
        .execute();
    }
    const [, , third, fourth] = blobs;
    assert.ok(third && fourth);
    await truncate(pathOf(root, tenantId, third), 1);
    const found: StoreFinding[] = [];
    const options = {
      bytesPerSecond: 1e9,
      signal,
      onFinding: (each: StoreFinding) => found.push(each),
    };
    assert.equal(await scrubBlobs(database, store, { ...options, maxBytes: 1500 }), 1003);
    assert.deepEqual(found, []);
    assert.ok(((await findBlob(database, tenantId, fourth.digest))?.verifiedAt ?? 0) > 1000);
    await scrubBlobs(database, store, { ...options, maxBytes: 1500 });
    assert.deepEqual(
      found.map(({ kind }) => kind),
      ['corrupt'],
    );
    assert.equal((await findBlob(database, tenantId, third.digest))?.state, 'corrupt');
  });

  test(`${name}: keys are made once a tenant, sealed, and rotate without losing the old`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, keys, tenantId } = both;
    const made = await Promise.all(
      Array.from({ length: 5 }, () => keys.current(tenantId, { signal })),
    );
    assert.equal(new Set(made.map(({ id }) => id)).size, 1);
    const [first] = made;
    assert.ok(first);
    const rows = await database.k.selectFrom('data_keys').selectAll().execute();
    assert.equal(Buffer.from(rows[0]?.sealed ?? []).indexOf(first.identity), -1);
    const second = await keys.rotate(tenantId, { signal });
    assert.notEqual(second.id, first.id);
    assert.equal((await keys.current(tenantId, { signal })).id, second.id);
    assert.equal((await keys.byId(tenantId, first.id, { signal })).identity, first.identity);
    const stranger = parseTenantId(newId());
    await assert.rejects(keys.byId(stranger, first.id, { signal }), { code: 'artifact.corrupt' });
  });

  test(`${name}: reencryptBlobs() moves all blobs to the current key and condemns the old copies`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, keys, tenantId } = both;
    const contents = [someBytes(1000), someBytes(70_000), someBytes(0)];
    const blobs: StoredBlob[] = [];
    for (const [index, bytes] of contents.entries()) {
      blobs.push(await commitBytes(store, bytes, { tenantId, encrypt: index > 0 }));
    }
    await nameBlobs(database, tenantId, blobs);
    const key = await keys.rotate(tenantId, { signal });
    const options = { tenantId, keys, signal };
    const done = await reencryptBlobs(database, store, options);
    assert.deepEqual(done, { blobs: 3, bytes: 71_000, skipped: 0 });
    for (const [index, blob] of blobs.entries()) {
      const found = await requireBlob(database, tenantId, blob.digest);
      assert.equal(found.dataKeyId, key.id);
      assert.deepEqual(await readBlob(store, tenantId, found), contents[index]);
      assert.equal(await store.storedSize(tenantId, blob, { signal }), blob.storedBytes);
    }
    assert.equal((await reencryptBlobs(database, store, options)).blobs, 0);
    assert.equal(await storageBytes(database, tenantId), 71_000);
    await ageCondemned(database, DAY);
    const report = await collectGarbage(database, store, { graceMs: DAY, signal });
    assert.equal(report.removed, 3);
    assert.equal((await listAll(store)).length, 3);
    assert.deepEqual(await findingsOf(database, store), []);
  });

  test(`${name}: storageByTenant() says what each tenant keeps`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, store, tenantId } = both;
    const other = await makeTenant(database, 'other');
    await makeTenant(database, 'idle');
    const plain = await commitBytes(store, someBytes(100), { tenantId });
    await nameBlobs(database, tenantId, [plain]);
    const sealed = await commitBytes(store, someBytes(50), { tenantId: other, encrypt: true });
    const gone = await commitBytes(store, someBytes(70), { tenantId: other });
    await nameBlobs(database, other, [sealed]);
    await releaseBuild(database, other, await nameBlobs(database, other, [gone]));
    const plainRow = await findBlob(database, tenantId, plain.digest);
    assert.ok(plainRow);
    await noteBlobState(database, plainRow, 'corrupt');
    const limitBytes = 1024 ** 3;
    assert.deepEqual(await storageByTenant(database), [
      {
        tenantId: other,
        tenant: 'other',
        blobs: 1,
        sizeBytes: 50,
        storedBytes: sealed.storedBytes,
        encryptedBlobs: 1,
        damagedBlobs: 0,
        condemnedBytes: 70,
        limitBytes,
      },
      {
        tenantId,
        tenant: 'acme',
        blobs: 1,
        sizeBytes: 100,
        storedBytes: 100,
        encryptedBlobs: 0,
        damagedBlobs: 1,
        condemnedBytes: 0,
        limitBytes,
      },
    ]);
  });

  test(`${name}: rows with names that are not ours never become a path`, async () => {
    await using both = await openBoth(openTestDatabase);
    const { database, tenantId } = both;
    const digest = parseDigest(`sha256:${'a'.repeat(64)}`);
    for (const generation of ['../../etc/passwd', `${freshGeneration()}/..`, '', 'x'.repeat(36)]) {
      await database.k
        .insertInto('blobs')
        .values({
          tenant_id: tenantId,
          digest,
          size_bytes: 1,
          stored_bytes: 1,
          generation,
          data_key_id: null,
          state: 'present',
          created_at: 1,
          verified_at: null,
        })
        .execute();
      await assert.rejects(requireBlob(database, tenantId, digest), {
        code: 'internal',
      });
      await database.k.deleteFrom('blobs').execute();
    }
  });
});
