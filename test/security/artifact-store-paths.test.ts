import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Digest, parseDigest } from '../../src/core/digest.ts';
import { newBuildId, type TenantId } from '../../src/core/ids.ts';
import type { Generation } from '../../src/store/artifacts/artifact-store.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { freshGeneration } from '../../src/store/artifacts/stored-name.ts';
import {
  commitBytes,
  EMPTY_INDEX,
  listAll,
  newTenantId,
  privateDirectory,
  readBlob,
  signal,
} from '../fixtures/artifact-stores.ts';

async function openWithVictim() {
  const home = await privateDirectory();
  const root = join(home.path, 'rootfs');
  const victim = join(home.path, 'victim');
  await mkdir(victim);
  await writeFile(join(victim, 'secret'), 'of the host');
  const store = await openLocalStore({ directory: root, index: EMPTY_INDEX });
  return {
    root,
    victim,
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** What a damaged or planted row might hold. The types say it cannot be; rows do not know types. */
const HOSTILE = [
  '..',
  '.',
  '',
  '/etc/passwd',
  '../../x',
  'a/b',
  'a\0b',
  '\n',
  '%2e%2e',
  'A'.repeat(300),
];

test('no tenant, digest, generation or staged name of a row becomes a path', async () => {
  await using opened = await openWithVictim();
  const { store, root } = opened;
  const tenantId = newTenantId();
  const digest = parseDigest(`sha256:${'0'.repeat(64)}`);
  const generation = freshGeneration();
  const sizes = { sizeBytes: 1, storedBytes: 1 };
  for (const text of HOSTILE) {
    const attempts = [
      readBlob(store, text as TenantId, { digest, generation, ...sizes }),
      readBlob(store, tenantId, { digest: text as Digest, generation, ...sizes }),
      readBlob(store, tenantId, { digest: `sha256:${text}` as Digest, generation, ...sizes }),
      readBlob(store, tenantId, { digest, generation: text as Generation, ...sizes }),
      store.remove(tenantId, { digest, generation: text as Generation }, { signal }),
      store.stage({ buildId: newBuildId(), attempt: 1, name: text }, { signal }),
      store.stage(
        { buildId: text as ReturnType<typeof newBuildId>, attempt: 1, name: 'a' },
        { signal },
      ),
      store.discardAttempt(
        { buildId: text as ReturnType<typeof newBuildId>, attempt: 1 },
        { signal },
      ),
    ];
    for (const outcome of await Promise.allSettled(attempts)) {
      const isRefused = outcome.status === 'rejected';
      // There is nothing staged yet that a discard could look at.
      const isIdle = outcome.status === 'fulfilled' && outcome.value === undefined;
      assert.ok(isRefused || isIdle, JSON.stringify(text));
    }
  }
  for (const attempt of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
    await assert.rejects(store.stage({ buildId: newBuildId(), attempt, name: 'a' }, { signal }), {
      code: 'internal',
    });
  }
  assert.deepEqual(await readdir(root), []);
});

test('a symlink in the place of a tenant, a prefix or a blob is never followed', async () => {
  await using opened = await openWithVictim();
  const { store, root, victim } = opened;
  const tenantId = newTenantId();
  const blob = await commitBytes(store, Buffer.from('of the tenant'), { tenantId });
  const prefix = join(root, tenantId, 'sha256', blob.digest.slice(7, 9));
  const file = join(prefix, `${blob.digest.slice(7)}.${blob.generation}`);
  for (const [place, target] of [
    [file, join(victim, 'secret')],
    [prefix, victim],
    [join(root, tenantId), victim],
  ] as const) {
    await rm(place, { recursive: true });
    await symlink(target, place);
    await assert.rejects(readBlob(store, tenantId, blob), { code: 'storage.failed' });
    const committing = commitBytes(store, Buffer.from('of the tenant'), { tenantId });
    if (place === file) {
      // A new copy has a name of its own beside the planted one.
      assert.equal(String(await readBlob(store, tenantId, await committing)), 'of the tenant');
    } else {
      await assert.rejects(committing, { code: 'storage.failed' });
    }
    assert.equal(await readFile(join(victim, 'secret'), 'utf8'), 'of the host');
    assert.deepEqual(await readdir(victim), ['secret']);
  }
});

test('a symlink or a file in the place of the staging directory stops staging', async () => {
  await using opened = await openWithVictim();
  const { store, root, victim } = opened;
  const request = { buildId: newBuildId(), attempt: 1, name: 'rootfs.ext4' };
  await symlink(victim, join(root, '.staging'));
  await assert.rejects(store.stage(request, { signal }), { code: 'storage.failed' });
  await rm(join(root, '.staging'));
  await writeFile(join(root, '.staging'), '');
  await assert.rejects(store.stage(request, { signal }), { code: 'storage.failed' });
  await rm(join(root, '.staging'));
  await mkdir(join(root, '.staging', request.buildId, '1'), { recursive: true });
  await symlink(
    join(victim, 'secret'),
    join(root, '.staging', request.buildId, '1', 'rootfs.ext4'),
  );
  await assert.rejects(store.stage(request, { signal }), { code: 'api.conflict' });
  assert.deepEqual(await readdir(victim), ['secret']);
});

test('discarding an attempt removes a planted symlink, not what it points at', async () => {
  await using opened = await openWithVictim();
  const { store, root, victim } = opened;
  const attempt = { buildId: newBuildId(), attempt: 1 };
  const directory = join(root, '.staging', attempt.buildId, '1');
  await mkdir(directory, { recursive: true });
  await symlink(join(victim, 'secret'), join(directory, 'link'));
  await store.discardAttempt(attempt, { signal });
  assert.deepEqual(await store.stagedAttempts({ signal }), []);
  assert.deepEqual(await readdir(victim), ['secret']);
});

test('one tenant cannot open the bytes of another, though both have the same', async () => {
  await using opened = await openWithVictim();
  const { store } = opened;
  const [mine, theirs] = [newTenantId(), newTenantId()];
  const blob = await commitBytes(store, Buffer.from('shared content'), { tenantId: theirs });
  await assert.rejects(readBlob(store, mine, blob), { code: 'artifact.missing' });
  await commitBytes(store, Buffer.from('shared content'), { tenantId: mine });
  await store.remove(theirs, blob, { signal });
  assert.equal((await listAll(store)).length, 1);
});
