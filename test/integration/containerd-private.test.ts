import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { mountPointsUnder } from '../../contrib/dev/mounts-under.ts';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';

const run = promisify(execFile);

async function withDir(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'bd-'));
  try {
    await use(join(dir, 'd'));
  } finally {
    await rm(dir, { recursive: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('startPrivateContainerd() serves until stop(), which leaves no process, mount or file', () =>
  withDir(async (dir) => {
    const daemon = await startPrivateContainerd({ dir });
    assert.ok(isAlive(daemon.pid));
    const { stdout } = await run('ctr', ['--address', daemon.address, 'version']);
    assert.match(stdout, /Server:/);
    const stray = join(daemon.rootDir, 'stray mount');
    await mkdir(stray);
    await run('mount', ['-t', 'tmpfs', 'tmpfs', stray]);
    await Promise.all([daemon.stop(), daemon.stop()]);
    assert.ok(!isAlive(daemon.pid));
    assert.deepEqual(await mountPointsUnder(dir), []);
    assert.deepEqual(await readdir(dir), []);
  }));

test('startPrivateContainerd() refuses a directory where one runs, and does not hurt that one', () =>
  withDir(async (dir) => {
    await using daemon = await startPrivateContainerd({ dir });
    await assert.rejects(startPrivateContainerd({ dir }), { code: 'runtime.conflict' });
    await run('ctr', ['--address', daemon.address, 'version']);
  }));

test('startPrivateContainerd() starts again where one was killed', () =>
  withDir(async (dir) => {
    const first = await startPrivateContainerd({ dir });
    process.kill(first.pid, 'SIGKILL');
    while (isAlive(first.pid)) await sleep(10);
    await using second = await startPrivateContainerd({ dir });
    assert.notEqual(second.pid, first.pid);
    await run('ctr', ['--address', second.address, 'version']);
  }));

test('startPrivateContainerd() ends what it began when it is cancelled or the program is wrong', () =>
  withDir(async (dir) => {
    await assert.rejects(startPrivateContainerd({ dir, signal: AbortSignal.abort() }), {
      code: 'build.cancelled',
    });
    assert.deepEqual(await readdir(dir), []);
    await assert.rejects(startPrivateContainerd({ dir, binary: '/bin/false' }), {
      code: 'runtime.failed',
    });
    assert.deepEqual(await readdir(dir), []);
  }));

test('startPrivateContainerd() refuses a directory too long for a unix socket', async () => {
  const dir = join(tmpdir(), 'x'.repeat(100));
  await assert.rejects(startPrivateContainerd({ dir }), { code: 'usage.invalid' });
});
