import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { claimIdPool, IDS_PER_POOL } from '../../src/builds/worker/id-pool.ts';
import { IDS_PER_BUILD, IdRanges, workerIds } from '../../src/builds/worker/id-ranges.ts';
import { createWorkerConverter } from '../../src/builds/worker/worker-converter.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { convertJob } from '../fixtures/convert-job.ts';
import { layerOf } from '../fixtures/memory-layer.ts';
import { processesOf } from '../fixtures/processes-of.ts';
import { rawEnd, rawFile } from '../fixtures/raw-tar.ts';
import { needsRoot, quietLog } from '../fixtures/worker-program.ts';

/** Of this file alone. */
const FIRST = 0x6a40_0000;
const CLAIMED = 0x6700_0000;

/** What cannot be killed at once, as a process that waits for a dead disk, stands on its own here. */
const STUCK_LAUNCHER = `#!/bin/sh
trap '' TERM
while [ "$1" != --worker-id ]; do shift; done
/usr/bin/setpriv --reuid "$2" --clear-groups /bin/sleep 1000 &
echo "{\\"launch\\":\\"started\\",\\"pid\\":$!,\\"net\\":1,\\"mnt\\":1}" >&3
echo '{"kind":"progress","event":{"kind":"notice","level":"info","message":"up"}}' >&4
wait
`;

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 6000 && !holds(); i++) await sleep(10);
  assert.ok(holds());
}

function takeBase(ids: IdRanges): number {
  using range = ids.take();
  return range.base;
}

test('the ids of a worker that does not die are not given to another one before it has', {
  skip: needsRoot,
}, async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-stuck-'));
  const launcher = path.join(dir.path, 'launcher');
  await writeFile(launcher, STUCK_LAUNCHER, { mode: 0o755 });
  const told: string[] = [];
  const tell = (_: unknown, message: string): number => told.push(message);
  const ids = new IdRanges({
    first: FIRST,
    count: 4,
    log: { ...quietLog, warn: tell, info: tell },
  });
  const { worker } = workerIds(FIRST);
  await using stuck = {
    [Symbol.asyncDispose]: async () => {
      for (const pid of processesOf(worker)) process.kill(pid, 'SIGKILL');
      await until(() => processesOf(worker).length === 0);
    },
  };
  const cancel = new AbortController();
  await using layer = await layerOf(Buffer.concat([rawFile('hello', { name: 'a' }), rawEnd()]));
  await using fixture = await convertJob([layer]);
  const converter = createWorkerConverter({
    limits: DEFAULT_CONVERSION_LIMITS,
    version: 'test',
    log: quietLog,
    nowMs: () => performance.now(),
    launcher,
    ids,
  });
  const signal = AbortSignal.any([cancel.signal, AbortSignal.timeout(120_000)]);
  // A cancel does not wait for what nobody can end.
  await assert.rejects(
    converter.convert(fixture.job, { signal, onProgress: () => cancel.abort() }),
    (reason) => isBuilderdError(reason, 'build.cancelled'),
  );
  assert.equal(processesOf(worker).length, 1);
  assert.equal(takeBase(ids), FIRST + IDS_PER_BUILD);
  assert.match(told[0] ?? '', new RegExp(`^The ids from ${FIRST} on stay out of use`));
  await stuck[Symbol.asyncDispose]();
  await until(() => takeBase(ids) === FIRST);
  assert.match(told.at(-1) ?? '', /may be used again$/);
});

test('a start leaves the ids alone that processes of an earlier one still have', {
  skip: needsRoot,
}, async () => {
  const first = FIRST + 8 * IDS_PER_BUILD;
  const { init } = workerIds(first + IDS_PER_BUILD);
  const left = spawn('setpriv', ['--reuid', String(init), '--clear-groups', 'sleep', '1000']);
  try {
    await until(() => processesOf(init).length === 1);
    const ids = new IdRanges({ first, count: 3 });
    await ids.withholdUsed();
    const taken = [ids.take(), ids.take()].map(({ base }) => base);
    assert.deepEqual(taken, [first, first + 2 * IDS_PER_BUILD]);
    assert.throws(() => ids.take(), { code: 'service.unavailable' });
    left.kill('SIGKILL');
    await once(left, 'exit');
    await until(() => {
      try {
        return takeBase(ids) === first + IDS_PER_BUILD;
      } catch {
        return false;
      }
    });
  } finally {
    left.kill('SIGKILL');
  }
});

const HOLDER = `
const { claimIdPool } = await import(${JSON.stringify(new URL('../../src/builds/worker/id-pool.ts', import.meta.url))});
globalThis.pool = await claimIdPool(${CLAIMED});
console.log('has it');
setInterval(() => undefined, 1000);
`;

test('two services of one host never give their workers the same ids', {
  skip: needsRoot,
}, async () => {
  const child: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', HOLDER], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    for await (const chunk of child.stdout ?? []) {
      assert.equal(String(chunk), 'has it\n');
      break;
    }
    await assert.rejects(claimIdPool(CLAIMED), {
      code: 'config.invalid',
      message: /another service of this host does; .*UNKEY_BUILDERD_WORKER_ID_BASE/,
    });
    using other = await claimIdPool(CLAIMED + IDS_PER_POOL);
    assert.equal(other.first, CLAIMED + IDS_PER_POOL);
    // Whoever names none gets what is free.
    using one = await claimIdPool(undefined);
    using two = await claimIdPool(undefined);
    assert.notEqual(one.first, two.first);
    assert.equal((two.first - one.first) % IDS_PER_POOL, 0);
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    // The kernel gave the lock back with the process.
    using again = await claimIdPool(CLAIMED);
    assert.equal(again.first, CLAIMED);
    await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-open-'));
    await chmod(dir.path, 0o755);
    await assert.rejects(claimIdPool(CLAIMED, dir.path), {
      code: 'host.permission',
      message: /nobody else may enter/,
    });
  } finally {
    child.kill('SIGKILL');
  }
});
