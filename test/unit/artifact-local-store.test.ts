import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFile,
  chmod,
  mkdir,
  readdir,
  readFile,
  rm,
  rmdir,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { newBuildId, newId } from '../../src/core/ids.ts';
import type { StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import { diskIo, type DurableIo } from '../../src/store/artifacts/durable-io.ts';
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

const digestOf = (bytes: Uint8Array): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

async function openStore(directory: string, withAddon = true) {
  return openLocalStore({
    directory,
    index: EMPTY_INDEX,
    ...(withAddon && addon !== undefined ? { addon } : {}),
  });
}

for (const withAddon of [true, false]) {
  test(`commit() stores what was staged under its digest, ${withAddon ? 'with' : 'without'} the addon`, async () => {
    await using home = await privateDirectory();
    await using store = await openStore(join(home.path, 'rootfs'), withAddon);
    const tenantId = newTenantId();
    for (const length of [0, 1, 4096, (4 << 20) - 1, (4 << 20) + 1, 9 << 20]) {
      const bytes = someBytes(length);
      const blob = await commitBytes(store, bytes, { tenantId });
      assert.equal(blob.digest, digestOf(bytes));
      assert.equal(blob.sizeBytes, length);
      assert.deepEqual(await readBlob(store, tenantId, blob), bytes);
    }
  });
}

test('a committed file is read-only, alone under its tenant, and nothing stays staged', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const buildId = newBuildId();
  const blob = await commitBytes(store, Buffer.from('an artifact'), { tenantId, buildId });
  const hex = blob.digest.slice(7);
  const path = join(home.path, tenantId, 'sha256', hex.slice(0, 2), `${hex}.${buildId}.1`);
  const found = await stat(path);
  assert.equal(found.mode & 0o7777, 0o440);
  assert.equal(found.nlink, 1);
  assert.equal((await stat(join(home.path, tenantId))).mode & 0o7777, 0o750);
  assert.deepEqual(await readdir(join(home.path, '.staging', buildId, '1')), []);
  assert.deepEqual(await store.stagedAttempts({ signal }), [{ buildId, attempt: 1 }]);
  await store.discardAttempt({ buildId, attempt: 1 }, { signal });
  await store.discardAttempt({ buildId, attempt: 1 }, { signal });
  assert.deepEqual(await store.stagedAttempts({ signal }), []);
});

test('a staged file that is not committed leaves nothing behind', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const request = { buildId: newBuildId(), attempt: 3, name: 'rootfs.tar' };
  {
    await using staged = await store.stage(request, { signal });
    await staged.handle.writeFile('half');
    await assert.rejects(store.stage(request, { signal }), { code: 'api.conflict' });
  }
  const listed = await listAll(store);
  assert.deepEqual(listed, []);
  assert.deepEqual(await readdir(join(home.path, '.staging', request.buildId, '3')), []);
});

test('commit() repeated for the same staged file gives the same blob', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  await using staged = await store.stage(
    { buildId: newBuildId(), attempt: 1, name: 'rootfs.ext4' },
    { signal },
  );
  await staged.handle.writeFile('the same');
  const options = { tenantId, encrypt: false, signal };
  const first = await store.commit(staged, options);
  assert.deepEqual(await store.commit(staged, options), first);
});

test('two artifacts of one attempt with equal bytes share one copy', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const buildId = newBuildId();
  const first = await commitBytes(store, Buffer.from('{}'), { tenantId, buildId, name: 'a.json' });
  const second = await commitBytes(store, Buffer.from('{}'), { tenantId, buildId, name: 'b.json' });
  assert.deepEqual(second, first);
  assert.equal((await listAll(store)).length, 1);
});

test('commit() takes the copy that a row names when it is there, and only then', async () => {
  await using home = await privateDirectory();
  const tenantId = newTenantId();
  let known: StoredBlob | undefined;
  await using store = await openLocalStore({
    directory: home.path,
    index: { hasSize: async () => true, findPresent: async () => known },
  });
  const bytes = someBytes(10_000);
  known = await commitBytes(store, bytes, { tenantId });
  assert.deepEqual(await commitBytes(store, bytes, { tenantId }), known);
  assert.equal((await listAll(store)).length, 1);
  await store.remove(tenantId, known, { signal });
  const again = await commitBytes(store, bytes, { tenantId });
  assert.notEqual(again.generation, known.generation);
  assert.deepEqual(await readBlob(store, tenantId, again), bytes);
});

test('commit() refuses a file that changes while it is hashed', async () => {
  await using home = await privateDirectory();
  let stagedPath = '';
  const io: DurableIo = {
    ...diskIo,
    // Once the commit has begun, a worker that should be gone writes on.
    async read(handle, into, length, position) {
      const got = await diskIo.read(handle, into, length, position);
      if (position === 0) await appendFile(stagedPath, 'a late byte');
      return got;
    },
  };
  await using store = await openLocalStore({ directory: home.path, index: EMPTY_INDEX, io });
  await using staged = await store.stage(
    { buildId: newBuildId(), attempt: 1, name: 'rootfs.ext4' },
    { signal },
  );
  stagedPath = staged.path;
  await staged.handle.writeFile(someBytes(1 << 20));
  await assert.rejects(store.commit(staged, { tenantId: newTenantId(), encrypt: false, signal }), {
    code: 'storage.failed',
  });
  assert.deepEqual(await listAll(store), []);
});

test('commit() stops when it is cancelled', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  await using staged = await store.stage(
    { buildId: newBuildId(), attempt: 1, name: 'rootfs.ext4' },
    { signal },
  );
  await staged.handle.writeFile(someBytes(32 << 20));
  const stop = new AbortController();
  const committing = store.commit(staged, {
    tenantId: newTenantId(),
    encrypt: false,
    signal: stop.signal,
  });
  stop.abort();
  await assert.rejects(committing, { code: 'build.cancelled' });
  assert.deepEqual(await listAll(store), []);
});

test('open() says missing, truncated and exchanged instead of giving a short body', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const blob = await commitBytes(store, someBytes(100_000), { tenantId });
  const hex = blob.digest.slice(7);
  const path = join(home.path, tenantId, 'sha256', hex.slice(0, 2), `${hex}.${blob.generation}`);
  await assert.rejects(readBlob(store, newTenantId(), blob), { code: 'artifact.missing' });
  const bytes = await readFile(path);
  bytes[50_000] = (bytes[50_000] ?? 0) ^ 1;
  await chmod(path, 0o600);
  await writeFile(path, bytes);
  const checked = await store.open(tenantId, blob, { signal, verify: true });
  await assert.rejects(checked.toArray(), { code: 'artifact.corrupt' });
  await truncate(path, 99_999);
  await assert.rejects(readBlob(store, tenantId, blob), { code: 'artifact.corrupt' });
  await store.remove(tenantId, blob, { signal });
  await store.remove(tenantId, blob, { signal });
  await assert.rejects(readBlob(store, tenantId, blob), { code: 'artifact.missing' });
  assert.equal(await store.storedSize(tenantId, blob, { signal }), undefined);
});

test('open() gives exactly the range, and refuses one that lies outside', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const bytes = someBytes(700_000);
  const blob = await commitBytes(store, bytes, { tenantId });
  for (const [start, end] of [
    [0, 0],
    [0, 699_999],
    [262_143, 262_144],
    [699_999, 699_999],
  ] as const) {
    const found = await readBlob(store, tenantId, blob, { start, end });
    assert.ok(found.equals(bytes.subarray(start, end + 1)), `${start}-${end}`);
  }
  for (const [start, end] of [
    [0, 700_000],
    [-1, 5],
    [5, 4],
    [0.5, 4],
    [9e99, 9e99],
  ] as const) {
    await assert.rejects(readBlob(store, tenantId, blob, { start, end }), { code: 'api.invalid' });
  }
});

test('a stream that is abandoned or aborted lets go of its file', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const blob = await commitBytes(store, someBytes(4 << 20), { tenantId });
  const before = (await readdir('/proc/self/fd')).length;
  const unread = await store.open(tenantId, blob, { signal });
  unread.destroy();
  const stop = new AbortController();
  const aborted = await store.open(tenantId, blob, { signal: stop.signal });
  const reading = aborted.toArray();
  stop.abort();
  await assert.rejects(
    reading,
    (reason) => reason instanceof Error && reason.name === 'AbortError',
  );
  const half = await store.open(tenantId, blob, { signal });
  for await (const chunk of half) {
    assert.ok(chunk.length > 0);
    break;
  }
  for (const stream of [unread, aborted, half]) {
    if (!stream.closed) await new Promise((done) => stream.once('close', done));
  }
  assert.equal((await readdir('/proc/self/fd')).length, before);
});

test('list() tells what is not ours and leaves it alone', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const blob = await commitBytes(store, Buffer.from('x'), { tenantId });
  const prefix = join(tenantId, 'sha256', blob.digest.slice(7, 9));
  await writeFile(join(home.path, 'notes.txt'), 'x');
  await writeFile(join(home.path, tenantId, 'sha512'), 'x');
  await writeFile(join(home.path, prefix, 'lost'), 'x');
  const listed = await listAll(store);
  assert.deepEqual(
    listed
      .filter((each) => each.kind === 'foreign')
      .map(({ name }) => name)
      .toSorted(),
    [join(prefix, 'lost'), `${tenantId}/sha512`, 'notes.txt'].toSorted(),
  );
  assert.deepEqual(
    listed.filter((each) => each.kind === 'blob'),
    [
      {
        kind: 'blob',
        tenantId,
        digest: blob.digest,
        generation: blob.generation,
        storedBytes: 1,
      },
    ],
  );
});

test('openLocalStore() refuses a directory that is a symlink or that others may write to', async () => {
  await using home = await privateDirectory();
  const real = join(home.path, 'real');
  await using store = await openStore(real);
  assert.deepEqual(store.health(), { kind: 'healthy' });
  await symlink(real, join(home.path, 'link'));
  await assert.rejects(openStore(join(home.path, 'link')), { code: 'storage.failed' });
  await chmod(real, 0o770);
  await assert.rejects(openStore(real), { code: 'host.permission' });
});

test('a store that is open for reading opens artifacts and changes nothing', async () => {
  await using home = await privateDirectory();
  await using store = await openStore(home.path);
  const tenantId = newTenantId();
  const blob = await commitBytes(store, Buffer.from('bytes'), { tenantId });
  await using reader = await openLocalStore({
    directory: home.path,
    index: EMPTY_INDEX,
    readOnly: true,
  });
  assert.equal(String(await readBlob(reader, tenantId, blob)), 'bytes');
  const refused = (reason: unknown): boolean => isBuilderdError(reason, 'internal');
  await assert.rejects(
    reader.stage({ buildId: newBuildId(), attempt: 1, name: 'a' }, { signal }),
    refused,
  );
  await assert.rejects(async () => reader.remove(tenantId, blob, { signal }), refused);
});

test('stage() makes its directories again when a sweep takes the empty ones from under it', async () => {
  await using home = await privateDirectory();
  const buildId = newBuildId();
  let swept = 0;
  const io: DurableIo = {
    ...diskIo,
    // Attempt 1 is swept between the two calls that make the directories of attempt 2.
    makeDirectory: async (path, mode) => {
      if (path.endsWith('/2') && swept < 3) {
        swept += 1;
        await rmdir(join(home.path, '.staging', buildId));
      }
      await diskIo.makeDirectory(path, mode);
    },
  };
  await using store = await openLocalStore({ directory: home.path, index: EMPTY_INDEX, io });
  await using staged = await store.stage({ buildId, attempt: 2, name: 'rootfs.ext4' }, { signal });
  await staged.handle.writeFile('x');
  assert.equal(swept, 3);
});

test('tidy() passes over scratch copies that end while it looks, and removes old ones', async () => {
  await using home = await privateDirectory();
  const scratch = join(home.path, '.scratch');
  await mkdir(scratch, { mode: 0o700 });
  const [old, vanishing, fresh] = [newId(), newId(), newId()];
  for (const name of [old, vanishing, fresh]) await writeFile(join(scratch, name), 'half');
  const long = new Date(Date.now() - 25 * 60 * 60_000);
  await utimes(join(scratch, old), long, long);
  const io: DurableIo = {
    ...diskIo,
    async list(path) {
      const entries = await diskIo.list(path);
      await rm(join(scratch, vanishing), { force: true });
      return entries;
    },
  };
  await using store = await openLocalStore({ directory: home.path, index: EMPTY_INDEX, io });
  await store.tidy({ signal });
  assert.deepEqual(await readdir(scratch), [fresh]);
});
