import assert from 'node:assert/strict';
import { chmod, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TenantId } from '../../src/core/ids.ts';
import type { StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import {
  addon,
  commitBytes,
  EMPTY_INDEX,
  listAll,
  newTenantId,
  privateDirectory,
  readBlob,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { memoryTenantKeys } from '../fixtures/tenant-keys.ts';

const pathOf = (root: string, tenantId: TenantId, { digest, generation }: StoredBlob): string =>
  join(root, tenantId, 'sha256', digest.slice(7, 9), `${digest.slice(7)}.${generation}`);

async function openStore(directory: string, keys = memoryTenantKeys()) {
  return openLocalStore({
    directory,
    keys,
    index: EMPTY_INDEX,
    ...(addon === undefined ? {} : { addon }),
  });
}

test('commit() encrypts, with the digest of the plain bytes, and no plain byte stays', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  for (const length of [0, 1, 65_536, 65_537, 5_000_000]) {
    const bytes = someBytes(length);
    const blob = await commitBytes(store, bytes, { tenantId, encrypt: true });
    const stored = await readFile(pathOf(home.path, tenantId, blob));
    assert.equal(stored.length, blob.storedBytes);
    assert.match(stored.toString('latin1', 0, 30), /^age-encryption\.org\/v1\n-> X25/);
    if (length > 100) assert.equal(stored.indexOf(bytes.subarray(0, 32)), -1);
    assert.deepEqual(await readBlob(store, tenantId, blob), bytes);
    const plain = await commitBytes(store, bytes, { tenantId });
    assert.equal(plain.digest, blob.digest);
    assert.equal(plain.dataKeyId, undefined);
  }
  const staged = await store.stagedAttempts({ signal });
  for (const attempt of staged) await store.discardAttempt(attempt, { signal });
  assert.equal((await listAll(store)).length, 10);
});

test('open() of an encrypted artifact gives exactly the range', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const bytes = someBytes(1_000_000);
  const blob = await commitBytes(store, bytes, { tenantId, encrypt: true });
  for (const [start, end] of [
    [0, 0],
    [0, 999_999],
    [65_535, 65_536],
    [65_536, 131_071],
    [262_000, 700_000],
    [999_999, 999_999],
  ] as const) {
    const found = await readBlob(store, tenantId, blob, { start, end });
    assert.ok(found.equals(bytes.subarray(start, end + 1)), `${start}-${end}`);
  }
});

test('open() refuses an encrypted artifact that was changed, cut or given to another tenant', async () => {
  await using home = await privateDirectory();
  const keys = memoryTenantKeys();
  await using store = await openStore(home.path, keys);
  const tenantId = newTenantId();
  const blob = await commitBytes(store, someBytes(300_000), { tenantId, encrypt: true });
  const path = pathOf(home.path, tenantId, blob);
  const original = await readFile(path);
  await chmod(path, 0o600);
  for (const at of [3, 100, 190, 210, 70_000, original.length - 1]) {
    const wrong = Buffer.from(original);
    wrong[at] = (wrong[at] ?? 0) ^ 4;
    await writeFile(path, wrong);
    await assert.rejects(readBlob(store, tenantId, blob), { code: 'artifact.corrupt' }, `${at}`);
  }
  await writeFile(path, original);
  await truncate(path, original.length - 65_552);
  await assert.rejects(readBlob(store, tenantId, blob), { code: 'artifact.corrupt' });
  await writeFile(path, original);
  const smaller = { ...blob, sizeBytes: blob.sizeBytes - 1 };
  await assert.rejects(readBlob(store, tenantId, smaller), { code: 'artifact.corrupt' });
  await keys.current(newTenantId(), { signal });
  const strangerKey = await keys.rotate(tenantId, { signal });
  const confused = { ...blob, dataKeyId: strangerKey.id };
  await assert.rejects(readBlob(store, tenantId, confused), { code: 'artifact.corrupt' });
  assert.equal((await readBlob(store, tenantId, blob)).length, 300_000);
});

test('recode() stores the same bytes under the new key, or plain, beside the old copy', async () => {
  await using home = await privateDirectory();
  const keys = memoryTenantKeys();
  await using store = await openStore(home.path, keys);
  const tenantId = newTenantId();
  const bytes = someBytes(400_000);
  const old = await commitBytes(store, bytes, { tenantId, encrypt: true });
  const key = await keys.rotate(tenantId, { signal });
  const renewed = await store.recode(tenantId, old, { encrypt: true, signal });
  assert.equal(renewed.dataKeyId, key.id);
  assert.equal(renewed.digest, old.digest);
  assert.notEqual(renewed.generation, old.generation);
  const plain = await store.recode(tenantId, renewed, { encrypt: false, signal });
  assert.equal(plain.storedBytes, bytes.length);
  for (const blob of [old, renewed, plain]) {
    assert.ok((await readBlob(store, tenantId, blob)).equals(bytes));
  }
  const path = pathOf(home.path, tenantId, plain);
  await chmod(path, 0o600);
  await writeFile(path, Buffer.alloc(bytes.length));
  await assert.rejects(store.recode(tenantId, plain, { encrypt: true, signal }), {
    code: 'artifact.corrupt',
  });
  assert.equal((await listAll(store)).length, 3);
});

test('a store without keys refuses to encrypt and to open what is encrypted', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const blob = await commitBytes(store, someBytes(10), { tenantId, encrypt: true });
  await using keyless = await openLocalStore({ directory: home.path, index: EMPTY_INDEX });
  await assert.rejects(readBlob(keyless, tenantId, blob), { code: 'config.invalid' });
  await assert.rejects(commitBytes(keyless, someBytes(10), { tenantId, encrypt: true }), {
    code: 'config.invalid',
  });
});

for (const encrypt of [false, true]) {
  test(`commit() does not take a known ${encrypt ? 'encrypted' : 'plain'} copy that rotted`, async () => {
    await using home = await privateDirectory();
    const keys = memoryTenantKeys();
    let known: StoredBlob | undefined;
    await using store = await openLocalStore({
      directory: home.path,
      keys,
      index: { hasSize: async () => true, findPresent: async () => known },
    });
    const tenantId = newTenantId();
    const bytes = someBytes(100_000);
    known = await commitBytes(store, bytes, { tenantId, encrypt });
    assert.deepEqual(await commitBytes(store, bytes, { tenantId, encrypt }), known);
    const path = pathOf(home.path, tenantId, known);
    const rotten = await readFile(path);
    rotten[5000] = (rotten[5000] ?? 0) ^ 1;
    await chmod(path, 0o600);
    await writeFile(path, rotten);
    const fresh = await commitBytes(store, bytes, { tenantId, encrypt });
    assert.notEqual(fresh.generation, known.generation);
    assert.ok((await readBlob(store, tenantId, fresh)).equals(bytes));
  });
}
