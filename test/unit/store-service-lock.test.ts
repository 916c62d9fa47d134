import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prepareDataDirectory } from '../../src/store/data-directory.ts';
import { holdServiceLock } from '../../src/store/service-lock.ts';

const MODULE = fileURLToPath(new URL('../../src/store/service-lock.ts', import.meta.url));

/** Another process that holds the lock until it is killed. */
async function holdElsewhere(directory: string): Promise<AsyncDisposable & { pid: number }> {
  const program = `
    import { holdServiceLock } from ${JSON.stringify(MODULE)};
    globalThis.held = await holdServiceLock(${JSON.stringify(directory)}, 'api');
    console.log('held');
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await once(child, 'close');
    },
  };
}

test('H13 and H23: holdServiceLock() lets one process of each role in, and nothing stale stays behind', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'bd-lock-'));
  try {
    const data = path.join(dir, 'data');
    await prepareDataDirectory(data);
    {
      await using other = await holdElsewhere(data);
      await assert.rejects(holdServiceLock(data, 'api'), {
        code: 'service.unavailable',
        message: new RegExp(
          `process ${other.pid} has it; one service works on one SQLite database`,
        ),
      });
      using executor = await holdServiceLock(data, 'executor');
      assert.ok(executor);
    }
    const mine = await holdServiceLock(data, 'api');
    await assert.rejects(holdServiceLock(data, 'api'), { code: 'service.unavailable' });
    mine[Symbol.dispose]();
    mine[Symbol.dispose]();
    using again = await holdServiceLock(data, 'api');
    assert.ok(again);
  } finally {
    await rm(dir, { recursive: true });
  }
});
