import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { mountPointsUnder } from '../../contrib/dev/mounts-under.ts';

const DEMO = resolve(import.meta.dirname, '../../contrib/dev/demo.ts');

for (const [moment, line] of [
  ['starts containerd', /starting a private containerd/],
  ['builds', /builderd build/],
  ['boots', /booting the disk/],
] as const) {
  test(`Ctrl-C while the demo ${moment} leaves nothing`, { timeout: 300_000 }, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'builderd-stop-'));
    try {
      const out = join(dir, 'out', 'rootfs.ext4');
      const scratch = await mkdtemp(join(dir, 'tmp-'));
      const demo = spawn(process.execPath, [DEMO, '--out', out], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, TMPDIR: scratch, IMAGE: '', CONTAINERD_ADDRESS: '' },
        detached: true,
      });
      assert.ok(demo.pid !== undefined);
      const { pid } = demo;
      const ended = once(demo, 'exit');
      createInterface({ input: demo.stdout }).on('line', (text) => {
        // As a terminal does it: to the whole process group.
        if (line.test(text)) setTimeout(() => process.kill(-pid, 'SIGINT'), 300);
      });
      assert.deepEqual(await ended, [130, null]);
      assert.deepEqual(await readdir(scratch), []);
      assert.deepEqual(await mountPointsUnder(dir), []);
      assert.deepEqual(await processesThatMention(dir), []);
      // Either no file, or a complete one with its metadata.
      const left = await readdir(join(dir, 'out'));
      assert.ok([0, 3].includes(left.length), `left: ${left.join(', ')}`);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
}

async function processesThatMention(dir: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    // A process may end while we look.
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (line.includes(dir)) found.push(line.replaceAll('\0', ' '));
  }
  return found;
}
