import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { createCtlProgram, runCtl } from '../../src/cli/ctl/ctl-program.ts';
import type { CtlHost } from '../../src/cli/ctl/ctl-host.ts';
import { build } from '../../src/cli/ctl/client/answers.ts';
import { chooseBuildView } from '../../src/cli/ctl/view/build-view.ts';
import { paintBuild } from '../../src/cli/ctl/view/paint-build.ts';

interface Written {
  stdout: string;
  stderr: string;
}

/** A user without home, network or terminal. */
function fakeHost(written: Written, stderr: Partial<CtlHost['stderr']> = {}): CtlHost {
  return {
    stdout: { write: (text) => (written.stdout += text) },
    stderr: { write: (text) => (written.stderr += text), ...stderr },
    signal: new AbortController().signal,
    atExit: () => undefined,
    env: {},
    homeDirectory: '/nonexistent',
    userId: 0,
    readStdin: () => Promise.resolve(''),
    writeBytes: () => Promise.reject(new Error('no bytes are expected')),
    nowMs: () => Date.parse('2026-11-24T00:01:00Z'),
    random: () => 0.5,
  };
}

async function run(args: readonly string[]): Promise<Written & { readonly code: number }> {
  const written = { stdout: '', stderr: '' };
  const code = await runCtl(args, fakeHost(written));
  return { ...written, code };
}

function leaves(command: Command): readonly Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

test('every command and option says what it does, and --json is everywhere', async () => {
  const program = createCtlProgram({
    host: fakeHost({ stdout: '', stderr: '' }),
    outcome: { exitCode: 0 },
  });
  const all = program.commands.flatMap(leaves);
  assert.ok(all.length > 30, `only ${all.length} commands`);
  for (const command of all) {
    const name = `${command.parent?.name()} ${command.name()}`;
    assert.ok(command.description().length > 10, name);
    for (const option of command.options)
      assert.ok(option.description !== '', `${name} ${option.flags}`);
    const isAnswer = command.name() !== 'completion';
    assert.equal(
      command.options.some(({ long }) => long === '--json'),
      isAnswer,
      name,
    );
    // Whoever stands at the machine could read an argument.
    const flags = command.options.map(({ flags: each }) => each).join('\n');
    assert.doesNotMatch(flags, /--(?:\w+-)*(?:password|token|secret|ssh-key) </, name);
  }
  const help = await run(['--help']);
  assert.match(
    help.stdout,
    /Examples:\n[^]*Exit codes: 0 done, 1 the build failed, 2 wrong use, 3/,
  );
  assert.equal((await run(['help', 'builds'])).code, 0);
  assert.match((await run(['--version'])).stdout, /^\d+\.\d+\.\d+/);
});

test('completion scripts know commands below commands, files and fixed words', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'builderctl-'));
  try {
    const file = join(dir, 'completion.bash');
    await writeFile(file, (await run(['completion', 'bash'])).stdout);
    const shell = promisify(execFile);
    const ask = async (...words: readonly string[]): Promise<string[]> => {
      const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _builderctl 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const answer = await shell('bash', ['-c', script, 'bash', file, 'builderctl', ...words], {
        cwd: dir,
      });
      return answer.stdout.trim().split('\n');
    };
    assert.deepEqual(await ask('ten'), ['tenants']);
    assert.deepEqual(await ask('builds', ''), ['list', 'get', 'cancel', 'delete']);
    assert.deepEqual(await ask('builds', 'list', '--sta'), ['--state']);
    assert.deepEqual(await ask('builds', 'list', '--state', 'comp'), ['completed']);
    assert.deepEqual(await ask('quota', 'set', 'acme', '--dry'), ['--dry-run']);
    assert.deepEqual(await ask('login', 'http://h', '--token-file', 'comp'), ['completion.bash']);
    assert.deepEqual(await ask('build', 'git'), ['git+https://']);
    for (const name of ['zsh', 'fish']) {
      const script = (await run(['completion', name])).stdout;
      for (const word of ['suspend', 'token-file', 'pending pulling', 'git+https']) {
        assert.ok(script.includes(word), `${name}: ${word}`);
      }
    }
  } finally {
    await rm(dir, { recursive: true });
  }
});

const RUNNING = build(
  {
    id: '0198c0de-0000-7000-8000-000000000000',
    tenant: 'acme',
    state: 'extracting',
    name: '',
    labels: {},
    priority: 0,
    spec: {},
    createdAt: '2026-11-24T00:00:00.000Z',
    startedAt: '2026-11-24T00:00:30.000Z',
    timeoutMs: 900_000,
    attempt: 1,
    cancelRequested: false,
    progressPercent: 50,
    currentStep: 'layer 2 of 3',
    artifacts: [],
    steps: [
      {
        attempt: 1,
        state: 'pulling',
        name: 'pull',
        startedAt: '2026-11-24T00:00:30.000Z',
        finishedAt: '2026-11-24T00:00:40.000Z',
        outcome: 'completed',
      },
      { attempt: 1, state: 'extracting', name: 'extract', startedAt: '2026-11-24T00:00:40.000Z' },
    ],
    version: 3,
  },
  'it',
);
const plain = (_format: string, text: string): string => text;
const FRAME = {
  columns: 100,
  rows: 24,
  nowMs: Date.parse('2026-11-24T00:01:00Z'),
  paint: plain,
  final: false,
};

test('completion scripts list every command and every option of it', async () => {
  const program = createCtlProgram({
    host: fakeHost({ stdout: '', stderr: '' }),
    outcome: { exitCode: 0 },
  });
  for (const shell of ['bash', 'zsh', 'fish']) {
    const script = (await run(['completion', shell])).stdout;
    const words = new Set(script.match(/[a-z][a-z-]*/g));
    for (const command of program.commands.flatMap(leaves)) {
      const path = [command.parent?.name(), command.name()].filter((name) => name !== 'builderctl');
      for (const name of path) assert.ok(words.has(name ?? ''), `${shell}: ${path.join(' ')}`);
      for (const { long } of command.options) {
        assert.ok(words.has(long?.slice(2) ?? ''), `${shell}: ${path.join(' ')} ${long}`);
      }
    }
  }
});

test('paintBuild() shows what is done, how far it is, and why it waits', () => {
  assert.deepEqual(
    paintBuild(RUNNING, FRAME),
    [
      'Build 0198c0de-0000-7000-8000-000000000000',
      '✔ pulling     10.0 s',
      '⠋ extracting  ━━━━━━━━━━━━──────────── 50 %  30.0 s  layer 2 of 3',
    ].map((line, index) => (index === 2 ? line.replace(' 50 %', '  50 %') : line)),
  );
  const waiting = {
    ...RUNNING,
    state: 'pending',
    steps: [],
    waiting: { reason: 'host_memory', ahead: 2, message: 'the host has no memory left' },
  };
  assert.equal(
    paintBuild(waiting, FRAME)[1],
    '⠋ waiting     2 ahead  the host has no memory left  1 min 0 s',
  );
  assert.deepEqual(paintBuild({ ...RUNNING, state: 'completed', steps: [] }, FRAME), [
    'Build 0198c0de-0000-7000-8000-000000000000',
  ]);
  for (const columns of [20, 40, 60, 80]) {
    for (const line of [
      ...paintBuild(RUNNING, { ...FRAME, columns }),
      ...paintBuild(waiting, { ...FRAME, columns }),
    ]) {
      assert.ok(line.length < columns, `${columns}: ${line}`);
    }
  }
});

test('the live view repaints in place, scrolls the log above, and gives the cursor back', () => {
  const written = { stdout: '', stderr: '' };
  const view = chooseBuildView(
    { progress: 'auto', quiet: false },
    fakeHost(written, { isTTY: true, columns: 80, rows: 10 }),
  );
  view.onBuild(RUNNING);
  view.onLog({
    n: 0,
    time: '2026-11-24T00:00:41.000Z',
    level: 'info',
    component: 'builder',
    message: 'hi \u001b[2J',
    metadata: undefined,
  });
  view.onNote('the connection was cut');
  view.stop();
  view.stop();
  assert.ok(written.stderr.startsWith('\u001b[?25l'));
  assert.ok(written.stderr.endsWith('\u001b[?25h'));
  assert.match(written.stderr, /builder: hi \\x1b\[2J\u001b\[K\n/);
  assert.equal(written.stderr.split('\u001b[?25h').length, 2);
});

test('the other views: lines of changes, JSON lines, nothing', () => {
  const told = (progress: string, quiet = false): string => {
    const written = { stdout: '', stderr: '' };
    const view = chooseBuildView({ progress, quiet }, fakeHost(written));
    view.onBuild(RUNNING);
    view.onBuild(RUNNING);
    view.onNote('x');
    view.stop();
    return written.stderr;
  };
  assert.equal(
    told('plain'),
    'Build 0198c0de-0000-7000-8000-000000000000 is extracting\nnote: x\n',
  );
  assert.equal(told('auto'), told('plain'));
  assert.equal(told('auto', true), '');
  assert.deepEqual(
    told('json')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { type: string }).type),
    ['build', 'note'],
  );
});
