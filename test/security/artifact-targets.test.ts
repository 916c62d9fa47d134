import assert from 'node:assert/strict';
import {
  lstat,
  mkdir,
  mkdtempDisposable,
  readdir,
  readFile,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { stageFile } from '../../src/store/staged-file.ts';

const isUsage = (reason: unknown): boolean => isBuilderdError(reason, 'usage.invalid');

test('an artifact never replaces a symlink, a socket, a device or a directory', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-stage-'));
  const at = (name: string): string => path.join(dir.path, name);
  await writeFile(at('victim'), 'before');
  await symlink('victim', at('link'));
  await symlink('nowhere', at('dangling'));
  await mkdir(at('directory'));
  const server = createServer().listen(at('socket'));
  try {
    await new Promise((resolve) => server.once('listening', resolve));
    const before = await readdir(dir.path);
    for (const name of ['link', 'dangling', 'directory', 'socket']) {
      await assert.rejects(stageFile(at(name)), isUsage, name);
    }
    await assert.rejects(stageFile('/dev/null'), isUsage);
    await assert.rejects(stageFile('/dev/stdout'), isUsage);
    assert.deepEqual(await readdir(dir.path), before);
    assert.equal(await readFile(at('victim'), 'utf8'), 'before');
    assert.ok((await lstat(at('link'))).isSymbolicLink());
  } finally {
    server.close();
  }
});

test('an artifact replaces an older file, and what stood behind its other names stays', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-stage-'));
  const file = path.join(dir.path, 'out');
  await writeFile(file, 'old');
  await using staged = await stageFile(file);
  await staged.handle.writeFile('new');
  assert.equal(await readFile(file, 'utf8'), 'old');
  await staged.publish();
  assert.equal(await readFile(file, 'utf8'), 'new');
  assert.deepEqual(await readdir(dir.path), ['out']);
});
