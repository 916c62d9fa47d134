import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtempDisposable, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { LAUNCHER_FILE } from '../../native/launcher.ts';
import { createWorkerConverter } from '../../src/builds/worker/worker-converter.ts';
import { faultOfEnd } from '../../src/builds/worker/worker-fault.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { processesOf } from '../fixtures/processes-of.ts';
import {
  codeRootWith,
  converterIn,
  needsRoot,
  quietLog,
  runAsWorker,
} from '../fixtures/worker-program.ts';

const FIXTURE = path.join(import.meta.dirname, '../fixtures/hanging-conversion.ts');
const WORKER_OFFSET = 65_530;
const INIT_OFFSET = 65_529;

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const chunk of child.stdout ?? []) return String(chunk).trim();
  return '';
}

test('kill -9 of the executor leaves no worker', { skip: needsRoot }, async () => {
  const idBase = 0x6d00_0000;
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-killed-'));
  const child = spawn(process.execPath, [FIXTURE, String(idBase)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // What it cannot tidy up any more lies in here.
    env: { ...process.env, TMPDIR: dir.path },
  });
  const exited = once(child, 'exit');
  assert.equal(await firstLine(child), 'up');
  const ids = [idBase + WORKER_OFFSET, idBase + INIT_OFFSET];
  assert.deepEqual(
    ids.map((id) => processesOf(id).length),
    [1, 1],
  );
  child.kill('SIGKILL');
  await exited;
  // The kernel tells each process in turn; nothing else is awaited.
  for (let i = 0; i < 6000 && ids.some((id) => processesOf(id).length > 0); i++) await sleep(10);
  assert.deepEqual(ids.flatMap(processesOf), []);
});

const WITHOUT: [string, RegExp][] = [
  ['sys_admin', /^isolation\.unavailable: .*"clone" \(EPERM\)/],
  ['setpcap', /^isolation\.unavailable: .*"bounding set" \(EPERM\)/],
  ['sys_chroot', /^isolation\.unavailable: .*"(?:pivot_root|chroot)" \(EPERM\)/],
  ['setuid', /^isolation\.unavailable: .*"setresuid" \(EPERM\)/],
  ['setgid', /^isolation\.unavailable: .*"setgroups" \(EPERM\)/],
];

for (const [capability, message] of WITHOUT) {
  test(`an executor without CAP_${capability.toUpperCase()} refuses to convert, and names the step`, {
    skip: needsRoot,
  }, async () => {
    const idBase = 0x6c00_0000;
    const { stdout } = await promisify(execFile)('setpriv', [
      `--bounding-set=-${capability}`,
      ...['--', process.execPath, FIXTURE, String(idBase)],
    ]);
    assert.match(stdout.trim(), message);
    assert.deepEqual(processesOf(idBase + WORKER_OFFSET), []);
  });
}

test('check() finds a host that can isolate, and one whose launcher is missing', {
  skip: needsRoot,
}, async () => {
  const signal = AbortSignal.timeout(60_000);
  await converterIn().check({ signal });
  const broken = createWorkerConverter({
    limits: DEFAULT_CONVERSION_LIMITS,
    version: 'test',
    log: quietLog,
    nowMs: () => performance.now(),
    launcher: '/nowhere/builderd-launch',
  });
  await assert.rejects(broken.check({ signal }), {
    code: 'isolation.unavailable',
    message: /its launcher \/nowhere\/builderd-launch does not start/,
  });
});

test('a launcher refuses arguments that would weaken it', { skip: needsRoot }, async () => {
  const good = new Map([
    ['--report', '3'],
    // Not its parent: it ends without a word before it does anything.
    ['--parent', '1'],
    ['--keep', '4'],
    ['--worker-id', '100000'],
    ['--init-id', '100001'],
    ['--tmp', '65536'],
    ['--fsize', '65536'],
    ['--nofile', '64'],
    ['--nproc', '64'],
  ]);
  const program = ['--', '/bin/true', 'true'];
  assert.deepEqual(await runLauncher([...[...good].flat(), ...program]), { code: 125, stderr: '' });
  const wrong: [string, string][] = [
    ['--worker-id', '0'],
    ['--worker-id', '1000'],
    ['--worker-id', '65535'],
    ['--worker-id', '-1'],
    ['--worker-id', '4294967295'],
    ['--worker-id', '4295032832'],
    ['--worker-id', '100001'],
    ['--worker-id', '100000x'],
    ['--init-id', '0'],
    ['--report', '0'],
    ['--keep', '1000000'],
    ['--oom-score-adj', '-500'],
    ['--env', 'NOTHING'],
    ['--unknown', '1'],
  ];
  for (const [name, value] of wrong) {
    const args = [...new Map([...good, [name, value]])].flat();
    await refused([...args, ...program]);
  }
  for (const target of ['relative', '/', '/a/../b', '/a//b', '/a/', '/./a']) {
    await refused([...[...good].flat(), '--data', '/etc', target, ...program]);
  }
  for (const rest of [[], ['--'], ['--', '/bin/true'], ['--', 'true', 'true'], ['--tmp']]) {
    await refused([...[...good].flat(), ...rest]);
  }
  for (const name of good.keys()) {
    await refused([...[...good].filter(([each]) => each !== name).flat(), ...program]);
  }
});

async function refused(args: readonly string[]): Promise<void> {
  const { code, stderr } = await runLauncher(args);
  assert.equal(code, 125, args.join(' '));
  assert.match(stderr, /^builderd-launch: Cannot use /, args.join(' '));
}

async function runLauncher(args: readonly string[]): Promise<{ code: number; stderr: string }> {
  const child = spawn(LAUNCHER_FILE, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code]: unknown[] = await once(child, 'close');
  return { code: Number(code), stderr };
}

test('a descriptor that is no cgroup is refused, and so is the conversion', {
  skip: needsRoot,
}, async () => {
  await using directory = await open('/tmp');
  const { end } = await runAsWorker('', { idBase: 0x6b00_0000, cgroupFd: directory.fd });
  const fault = faultOfEnd({ end, errorText: '', oomKilled: false, mounts: [] });
  assert.equal(fault?.code, 'isolation.unavailable');
  assert.match(fault.message, /"clone into cgroup"/);
});

test('code that a worker could not read is refused by name', { skip: needsRoot }, async () => {
  await using code = await codeRootWith('');
  const hidden = path.join(code.path, 'src/hidden.ts');
  await writeFile(hidden, '', { mode: 0o600 });
  assert.throws(() => converterIn(code.path), {
    code: 'host.permission',
    message: /src\/hidden\.ts/,
  });
  await rm(hidden);
  await chmod(path.join(code.path, 'src/cli'), 0o700);
  assert.throws(() => converterIn(code.path), { code: 'host.permission', message: /src\/cli/ });
  await rm(path.join(code.path, 'native'), { recursive: true });
  assert.throws(
    () => converterIn(code.path),
    (reason) => isBuilderdError(reason),
  );
});

test('a mount whose source is gone is refused by its name', { skip: needsRoot }, async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-gone-'));
  const gone = path.join(dir.path, 'gone');
  const root = {
    mounts: [{ kind: 'data' as const, source: gone, target: gone }],
    program: '/builderd/node',
    environment: new Map<string, string>(),
  };
  const { end } = await runAsWorker('', { idBase: 0x6b01_0000, root });
  const fault = faultOfEnd({ end, errorText: '', oomKilled: false, mounts: root.mounts });
  assert.equal(fault?.code, 'isolation.unavailable');
  assert.ok(fault.message.includes(gone), fault.message);
});

test('a worker that the kernel ended for want of memory is out of memory', () => {
  const end = {
    kind: 'ended',
    how: 'signal',
    value: 9,
    stopped: false,
    cpuUs: 1,
    peakKib: 1,
  } as const;
  const facts = { end, errorText: '', mounts: [] };
  assert.equal(faultOfEnd({ ...facts, oomKilled: true })?.code, 'build.oom');
  assert.equal(faultOfEnd({ ...facts, oomKilled: false })?.code, 'build.lost');
  const passing = { kind: 'refused', step: 'clone', value: 0, errno: 11 } as const;
  assert.equal(
    faultOfEnd({ ...facts, end: passing, oomKilled: false })?.code,
    'service.unavailable',
  );
});
