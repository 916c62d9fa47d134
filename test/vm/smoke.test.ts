import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { digestOf } from './debian-disk.ts';

const DEMO = resolve(import.meta.dirname, '../../contrib/dev/demo.ts');

test('the demo pulls, builds, checks and boots a Debian, and leaves only its disk', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'builderd-smoke-'));
  try {
    const disk = join(dir, 'disk', 'rootfs.ext4');
    const scratch = await mkdtemp(join(dir, 'tmp-'));
    const output = await runProgram(process.execPath, [DEMO, '--out', disk], {
      signal: AbortSignal.timeout(330_000),
      env: {
        TMPDIR: scratch,
        IMAGE: '',
        CONTAINERD_ADDRESS: '',
        UNKEY_BUILDERD_CONTAINERD_ADDRESS: '',
      },
    });
    assert.match(output, /builderd: hello from PID 1 of Debian GNU\/Linux/);
    assert.match(output, /Done\. 127\.0\.0\.1:\d+\/debian:latest is now a disk that boots\./);
    assert.deepEqual(await readdir(scratch), []);
    assert.deepEqual((await readdir(join(dir, 'disk'))).toSorted(), [
      'rootfs.ext4',
      'rootfs.ext4.fidelity.json',
      'rootfs.ext4.metadata.json',
    ]);
    // The guest wrote, but not here: the disk still is what its metadata says.
    assert.ok((await readFile(`${disk}.metadata.json`, 'utf8')).includes(await digestOf(disk)));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
