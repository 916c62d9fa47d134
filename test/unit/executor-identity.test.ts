import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { link, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { claimExecutorIdentity } from '../../src/store/executor-identity.ts';

async function privateDirectory() {
  const directory = await mkdtemp(path.join(tmpdir(), 'builderd-identity-'));
  return {
    directory,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

test('one executor at a time holds a data directory', async () => {
  await using dir = await privateDirectory();
  using first = claimExecutorIdentity(dir.directory);
  assert.deepEqual(first.earlier, []);
  assert.throws(() => claimExecutorIdentity(dir.directory), { code: 'service.unavailable' });
});

test('a lock file that is another file by a link is refused, and stays as it is', async () => {
  for (const make of [symlink, link]) {
    await using dir = await privateDirectory();
    const target = path.join(dir.directory, 'target');
    await writeFile(target, '');
    await make(target, path.join(dir.directory, 'executor.lock'));
    assert.throws(() => claimExecutorIdentity(dir.directory), { code: 'host.permission' });
    assert.equal((await stat(target)).size, 0);
  }
});

test('whoever comes next learns of all before it, until they are forgotten', async () => {
  await using dir = await privateDirectory();
  const ids: string[] = [];
  for (let run = 0; run < 3; run += 1) {
    using identity = claimExecutorIdentity(dir.directory);
    assert.deepEqual([...identity.earlier].toSorted(), ids.toSorted());
    ids.push(identity.id);
  }
  using last = claimExecutorIdentity(dir.directory);
  last.forgetEarlier();
  last[Symbol.dispose]();
  using after = claimExecutorIdentity(dir.directory);
  assert.deepEqual(after.earlier, [last.id]);
});

test('the lock of an executor that was killed is free at once', async () => {
  await using dir = await privateDirectory();
  const module = new URL('../../src/store/executor-identity.ts', import.meta.url).href;
  const script = `
    const { claimExecutorIdentity } = await import(${JSON.stringify(module)});
    const identity = claimExecutorIdentity(${JSON.stringify(dir.directory)});
    process.stdout.write(identity.id + '\\n');
    setInterval(() => identity.id, 1000);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line]: unknown[] = await once(child.stdout, 'data');
    assert.throws(() => claimExecutorIdentity(dir.directory), { code: 'service.unavailable' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    using next = claimExecutorIdentity(dir.directory);
    assert.deepEqual(next.earlier, [String(line).trim()]);
  } finally {
    child.kill('SIGKILL');
  }
});
