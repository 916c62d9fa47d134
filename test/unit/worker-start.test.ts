import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { FIRST_ID_BASE, IdRanges, workerIds } from '../../src/builds/worker/id-ranges.ts';
import { parseLaunchReport } from '../../src/builds/worker/launch-report.ts';
import { parseProcessStatus } from '../../src/builds/worker/living-processes.ts';
import {
  describeWorkerRoot,
  loadedLibraries,
  rootFor,
} from '../../src/builds/worker/worker-root.ts';

test('IdRanges gives no range twice, and a returned one again', () => {
  const ranges = new IdRanges();
  const first = ranges.take();
  using second = ranges.take();
  assert.equal(first.base, FIRST_ID_BASE);
  assert.notEqual(second.base, first.base);
  first[Symbol.dispose]();
  using third = ranges.take();
  assert.equal(third.base, first.base);
});

test('IdRanges runs out in time for signed 32-bit ids', () => {
  const ranges = new IdRanges();
  const taken: number[] = [];
  assert.throws(() => {
    for (;;) taken.push(ranges.take().base);
  }, /no range of ids is free/);
  assert.equal(taken.length, 4096);
  assert.ok(taken.every((base) => workerIds(base).worker < 2 ** 31));
});

test('parseProcessStatus() takes a zombie for dead, unless one of its threads lives on', () => {
  const status = (state: string, threads: number): string =>
    `Name:\tbuilderd\nState:\t${state}\nUid:\t70000\t70000\t70000\t70000\nThreads:\t${threads}\n`;
  const living = { pid: 7, name: 'builderd', uids: [70_000, 70_000, 70_000, 70_000] };
  assert.deepEqual(parseProcessStatus(7, status('D (disk sleep)', 1)), living);
  assert.deepEqual(parseProcessStatus(7, status('Z (zombie)', 2)), living);
  assert.equal(parseProcessStatus(7, status('Z (zombie)', 1)), undefined);
  assert.equal(parseProcessStatus(7, status('X (dead)', 0)), undefined);
});

test('parseLaunchReport() reads a start and an end', () => {
  const text =
    '{"launch":"started","pid":7,"net":11,"mnt":12}\n' +
    '{"launch":"ended","how":"signal","value":9,"stopped":true,"cpuUs":5,"peakKib":6}\n';
  assert.deepEqual(parseLaunchReport(text), {
    start: { pid: 7, networkNamespace: 11, mountNamespace: 12 },
    end: { kind: 'ended', how: 'signal', value: 9, stopped: true, cpuUs: 5, peakKib: 6 },
  });
  assert.deepEqual(parseLaunchReport('{"launch":"failed","step":"clone","value":0,"errno":1}\n'), {
    end: { kind: 'refused', step: 'clone', value: 0, errno: 1 },
  });
});

test('parseLaunchReport() finds nothing in a report that is cut off', () => {
  for (const text of [
    '',
    '{"launch":"end',
    'rubbish\n',
    '{"launch":"other"}\n',
    '[1]\n',
    'null\n',
  ]) {
    assert.deepEqual(parseLaunchReport(text), {}, text);
  }
});

test('describeWorkerRoot() shows a worker Node, its libraries, our code and two devices', async () => {
  const root = await rootOf();
  const kinds = Map.groupBy(root.mounts, (mount) => mount.kind);
  assert.deepEqual(
    kinds.get('device')?.map((mount) => mount.target),
    ['/dev/null', '/dev/urandom'],
  );
  const code = kinds.get('code')?.map((mount) => path.basename(mount.target)) ?? [];
  assert.ok(code.includes('node') && code.includes('prebuilds'), code.join());
  assert.ok(
    code.some((name) => name.startsWith('libc.so')),
    code.join(),
  );
  assert.ok(
    code.some((name) => name.startsWith('ld-linux')),
    code.join(),
  );
  const data = kinds.get('data')?.map((mount) => path.basename(mount.source));
  assert.deepEqual(data, ['package.json', 'src', 'addon.ts']);
});

test('rootFor() names the compile cache after the worker that reads it', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-cache-'));
  await chmod(dir.path, 0o755);
  await mkdir(path.join(dir.path, 'v26.1.0-x64-310b2ce3-0'), { mode: 0o755 });
  const root = rootFor(await rootOf(dir.path), 70_000);
  assert.equal(root.environment.get('NODE_COMPILE_CACHE'), '/builderd/cache');
  assert.equal(root.mounts.at(-1)?.target, '/builderd/cache/v26.1.0-x64-310b2ce3-70000');
  await writeFile(path.join(dir.path, 'other'), '');
  assert.equal((await rootOf(dir.path)).cache, undefined);
});

async function rootOf(cacheDir?: string): Promise<ReturnType<typeof describeWorkerRoot>> {
  await using code = await mkdtempDisposable(path.join(tmpdir(), 'builderd-code-'));
  for (const name of ['src', 'native', 'prebuilds']) await mkdir(path.join(code.path, name));
  for (const name of ['package.json', 'native/addon.ts'])
    await writeFile(path.join(code.path, name), '');
  return describeWorkerRoot({
    nodePath: process.execPath,
    codeRoot: code.path,
    libraries: loadedLibraries(),
    ...(cacheDir === undefined ? {} : { cacheDir }),
  });
}
