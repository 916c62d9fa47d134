import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { sha256 } from '../../src/core/digest.ts';
import type { TenantId } from '../../src/core/ids.ts';
import type { StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { freshGeneration } from '../../src/store/artifacts/stored-name.ts';
import {
  commitBytes,
  EMPTY_INDEX,
  newTenantId,
  privateDirectory,
  readBlob,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { memoryTenantKeys } from '../fixtures/tenant-keys.ts';

const run = promisify(execFile);
const skip = findAge() ? false : 'host lacks age (apt-get install age)';
const SIZES = [0, 1, 65_535, 65_536, 65_537, 1_000_000] as const;

function findAge(): boolean {
  try {
    execFileSync('age', ['--version'], { stdio: 'ignore' });
    return true;
  } catch (reason) {
    assert.ok(reason instanceof Error && 'code' in reason && reason.code === 'ENOENT');
    return false;
  }
}

const pathOf = (root: string, tenantId: TenantId, { digest, generation }: StoredBlob): string =>
  join(root, tenantId, 'sha256', digest.slice(7, 9), `${digest.slice(7)}.${generation}`);

/** A store with one tenant, and its exported key in a file. */
async function openExported() {
  const home = await privateDirectory();
  const keys = memoryTenantKeys();
  const tenantId = newTenantId();
  const key = await keys.current(tenantId, { signal });
  const keyFile = join(home.path, 'key.txt');
  await writeFile(keyFile, `# created: by a test\n${key.identity}\n`, { mode: 0o600 });
  const root = join(home.path, 'rootfs');
  const store = await openLocalStore({ directory: root, keys, index: EMPTY_INDEX });
  return {
    home: home.path,
    root,
    store,
    tenantId,
    key,
    keyFile,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

test('age decrypts what the store encrypted, given the exported key', { skip }, async () => {
  await using exported = await openExported();
  const { store, tenantId, root, keyFile } = exported;
  for (const size of SIZES) {
    const bytes = someBytes(size);
    const blob = await commitBytes(store, bytes, { tenantId, encrypt: true });
    // Through standard output: age makes no file for an empty one.
    const { stdout } = await run('age', ['-d', '-i', keyFile, pathOf(root, tenantId, blob)], {
      encoding: 'buffer',
      maxBuffer: 1 << 22,
    });
    assert.ok(stdout.equals(bytes), `${size} bytes`);
  }
});

test('the store opens what age encrypted for the tenant, also a range of it', {
  skip,
}, async () => {
  await using exported = await openExported();
  const { store, tenantId, root, home, key } = exported;
  for (const size of SIZES) {
    const bytes = someBytes(size);
    const plain = join(home, `plain-${size}`);
    const sealed = join(home, `sealed-${size}`);
    await writeFile(plain, bytes);
    await run('age', ['-r', key.recipient, '-o', sealed, plain]);
    const blob: StoredBlob = {
      digest: sha256(bytes),
      sizeBytes: size,
      storedBytes: (await stat(sealed)).size,
      generation: freshGeneration(),
      dataKeyId: key.id,
    };
    const path = pathOf(root, tenantId, blob);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, await readFile(sealed));
    assert.ok((await readBlob(store, tenantId, blob)).equals(bytes), `${size} bytes`);
    if (size < 65_537) continue;
    const part = await readBlob(store, tenantId, blob, { start: 65_000, end: size - 1 });
    assert.ok(part.equals(bytes.subarray(65_000)));
  }
});

test('what the store refuses as damaged, age refuses too', { skip }, async () => {
  await using exported = await openExported();
  const { store, tenantId, root, home, keyFile } = exported;
  const blob = await commitBytes(store, someBytes(300_000), { tenantId, encrypt: true });
  const path = pathOf(root, tenantId, blob);
  const sound = await readFile(path);
  await chmod(path, 0o600);
  const flipped = Buffer.from(sound);
  flipped[150_000] = (flipped[150_000] ?? 0) ^ 8;
  const header = sound.length - (300_000 + 5 * 16);
  const damaged = [flipped, sound.subarray(0, -1), sound.subarray(0, header + 2 * 65_552)];
  for (const [index, bytes] of damaged.entries()) {
    await writeFile(path, bytes);
    await assert.rejects(readBlob(store, tenantId, blob), { code: 'artifact.corrupt' });
    const plain = join(home, `plain-${index}`);
    await assert.rejects(run('age', ['-d', '-i', keyFile, '-o', plain, path]));
  }
});
