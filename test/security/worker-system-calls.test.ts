import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtempDisposable, readFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { privilegesLeft } from '../../src/builds/worker/privileges-left.ts';
import { needsRoot, runAsWorker } from '../fixtures/worker-program.ts';

const SOURCE = path.join(import.meta.dirname, '../fixtures/syscall-probe.c');
const INSIDE = '/builderd/probe';
const { EPERM, ENOSYS, EBADF } = constants.errno;
const run = promisify(execFile);

/** A static program: nothing but the launcher stands between it and the kernel. */
async function compileProbe(): Promise<{ file: string } & AsyncDisposable> {
  const dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-probe-'));
  await chmod(dir.path, 0o755);
  const file = path.join(dir.path, 'probe');
  await run(process.env['CC'] ?? 'cc', ['-static', '-O1', '-Wall', '-Werror', '-o', file, SOURCE]);
  return { file, [Symbol.asyncDispose]: () => dir.remove() };
}

function outcomesOf(text: string): Map<string, number | string> {
  return new Map(
    text
      .trim()
      .split('\n')
      .map((line) => {
        const [name = '', outcome = ''] = line.split(' ');
        return [name, /^\d+$/.test(outcome) ? Number(outcome) : outcome];
      }),
  );
}

/** What is decided by an argument, by the number, or by the architecture. */
const SPECIAL: Readonly<Record<string, number | string>> = {
  clone: 0,
  // So that the C library takes clone(2), whose flags can be seen.
  clone3: ENOSYS,
  'ioctl:FIONREAD': EBADF,
  'personality:0': 0,
  'newer:451': ENOSYS,
  'newer:500': ENOSYS,
  'i386:getpid': 'killed',
};

const ENDED = {
  kind: 'ended',
  how: 'exit',
  value: 0,
  stopped: false,
  cpuUs: 0,
  peakKib: 0,
};

/** DAC_READ_SEARCH, NET_RAW, everything from SYS_MODULE to SYS_BOOT, SYS_TIME to MKNOD, SYSLOG. */
const NEEDED = [2, 13, 16, 17, 18, 19, 20, 21, 22, 25, 26, 27, 34];

/** In a container the host's own filter, or a missing capability, gives the same answer. */
async function whyNoControl(): Promise<string | false> {
  const status = await readFile('/proc/self/status', 'utf8');
  const held = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? 0}`);
  const free = /^Seccomp:\s+0$/m.test(status);
  return free && NEEDED.every((cap) => (held >> BigInt(cap)) & 1n)
    ? false
    : 'host lacks the rights to try the calls without a filter';
}

test('a worker is refused every system call that a conversion does not need', {
  skip: needsRoot,
}, async () => {
  await using probe = await compileProbe();
  const { answers, end, errorText } = await runAsWorker('', {
    idBase: 0x6f10_0000,
    root: {
      mounts: [{ kind: 'code', source: probe.file, target: INSIDE }],
      program: INSIDE,
      environment: new Map(),
    },
    args: ['4'],
  });
  assert.deepEqual({ ...end, cpuUs: 0, peakKib: 0 }, ENDED, errorText);
  const outcomes = outcomesOf(answers);
  assert.ok(outcomes.size > 100, answers);
  for (const name of ['mount', 'unshare', 'ptrace', 'socket:unix', 'socket:netlink', 'bpf']) {
    assert.ok(outcomes.has(name), name);
  }
  const wrong = [...outcomes].filter(([name, outcome]) => outcome !== (SPECIAL[name] ?? EPERM));
  assert.deepEqual(wrong, []);
});

test('without the filter the same calls fail for other reasons', {
  skip: needsRoot || (await whyNoControl()),
}, async () => {
  await using probe = await compileProbe();
  const { stdout } = await run('setsid', ['--wait', probe.file, '1']);
  const refused = [...outcomesOf(stdout)].filter(([, outcome]) => outcome === EPERM);
  assert.deepEqual(refused, []);
});

test('a worker sees the filter on itself, and would not start without', {
  skip: needsRoot,
}, async () => {
  const { answers } = await runAsWorker(
    `import fs from 'node:fs'; fs.writeSync(4, fs.readFileSync('/proc/self/status'));`,
    { idBase: 0x6f11_0000 },
  );
  assert.match(answers, /^Seccomp:\t2$/m);
  assert.deepEqual(privilegesLeft(answers), []);
  assert.deepEqual(privilegesLeft(answers.replace(/^Seccomp:\t2$/m, 'Seccomp:\t0')), [
    'no filter holds its system calls',
  ]);
});
