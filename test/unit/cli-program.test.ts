import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { runProgram } from '../../src/cli/program.ts';
import { LAUNCHER, runCli, type CliResult } from '../fixtures/run-cli.ts';

/** A private directory that is gone afterwards. */
async function inTempDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'builderd-cli-'));
  try {
    await work(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
}

test('builderd --help and help show commands and examples on stdout', async () => {
  const [option, command] = await Promise.all([runHere(['--help']), runHere(['help'])]);
  assert.deepEqual(command, option);
  assert.equal(option.code, 0);
  assert.match(option.stdout, /Usage: builderd .*\n[^]*build[^]*doctor[^]*Examples:[^]*Exit codes/);
  assert.doesNotMatch(option.stdout, /  role /);
});

test('builderd build --help names every option', async () => {
  const { code, stdout } = await runHere(['build', '--help']);
  assert.equal(code, 0);
  const options =
    'format output platform pull size label uuid journal no-lost-found guest-files guest-init devices source-date-epoch timeout containerd-address namespace progress json quiet config';
  for (const name of options.split(' ')) assert.match(stdout, new RegExp(`--${name}\\b`), name);
});

test('builderd version tells the version of the package', async () => {
  const [plain, json, option] = await Promise.all([
    runCli(['version']),
    runHere(['version', '--json']),
    runHere(['--version']),
  ]);
  const { version, node } = JSON.parse(json.stdout) as { version: string; node: string };
  assert.match(version, /^\d+\.\d+\.\d+/);
  assert.equal(node, process.versions.node);
  assert.match(plain.stdout, new RegExp(`^builderd ${version} `));
  assert.equal(option.stdout, plain.stdout);
});

/** The same program in this process: quick, for what needs no process of its own. */
async function runHere(args: readonly string[]): Promise<CliResult> {
  const output = { stdout: '', stderr: '' };
  const code = await runProgram(args, {
    stdout: { write: (text) => (output.stdout += text) },
    stderr: { write: (text) => (output.stderr += text) },
    signal: new AbortController().signal,
    atExit: () => undefined,
  });
  return { code, ...output };
}

const WRONG_USE: readonly (readonly [readonly string[], RegExp])[] = [
  [[], /no command was named/],
  [['buld'], /no such command; did you mean build\?/],
  [['build'], /missing required argument 'source'/],
  [['build', 'a', 'b'], /too many arguments/],
  [['build', 'a', '--sise', '1G'], /unknown option '--sise' \(Did you mean --size\?\)/],
  [['build', 'a', '--size'], /argument missing/],
  [['build', 'a', '--size', 'huge'], /Cannot use --size "huge": want a size/],
  [['build', 'a', '--devices', 'some'], /Allowed choices are keep, standard, drop/],
  [['build', '--', '--flag'], /Cannot use "--flag" as a source/],
  [['build', 'git+https://x/y'], /Git sources are not built by this version/],
  [['build', 'a', '--guest-init', '/'], /--guest-init "\/": it is not a regular file/],
  [['build', 'a', '--guest-init', '/none'], /--guest-init "\/none": ENOENT/],
  [['build', 'a', '--config', '/none'], /Cannot read the environment file "\/none"/],
  [['serve', '--role', 'some'], /Allowed choices are all, api, executor/],
  [['backup'], /Cannot run builderd backup/],
  [['gc', '--grace', '1m'], /--grace "1m": want a duration of at least 1h/],
  [['fsck', '--config', '/none'], /Cannot read the environment file "\/none"/],
  [['migrate', '--config', '/none'], /Cannot read the environment file "\/none"/],
  [['--test-database', '--config', '/none'], /Cannot read the environment file "\/none"/],
  [['completion', 'tcsh'], /want bash, zsh, fish/],
];
for (const [args, message] of WRONG_USE) {
  test(`builderd ${args.join(' ')} exits 2 with a sentence and a next step`, async () => {
    const { code, stdout, stderr } = await runHere(args);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, message);
    assert.match(stderr, /^builderd: Cannot .*\nnext: .*\.\n$/m);
    assert.doesNotMatch(stderr, /\n\s+at /);
  });
}

test('--json makes every error one object on stdout, also of a broken command line', async () => {
  for (const args of [
    ['build', '--json'],
    ['build', 'a', '--json', '--nope'],
    ['build', 'oci:', '--json'],
  ]) {
    const { code, stdout, stderr } = await runHere(args);
    assert.equal(code, 2);
    assert.equal(stderr, '');
    const { error } = JSON.parse(stdout) as { error: Readonly<Record<string, unknown>> };
    assert.equal(error['code'], 'usage.invalid');
    assert.match(String(error['message']), /^Cannot /);
    assert.match(String(error['hint']), /\.$/);
    assert.equal(error['fault'], 'user');
  }
});

test('a bad or unknown setting stops the start, also from a file', async () => {
  await inTempDir(async (dir) => {
    const file = join(dir, 'env');
    await writeFile(file, 'UNKEY_BUILDERD_PORT=none\n');
    const runs = await Promise.all([
      runCli(['build', 'a'], { env: { UNKEY_BUILDERD_POTR: '1' } }),
      runCli(['--validate-config'], { env: { UNKEY_BUILDERD_LOG_LEVEL: 'loud' } }),
      runHere(['--validate-config', '--config', file]),
      runHere(['doctor', '--config', file]),
      runHere(['--config', file, 'doctor']),
      runHere(['build', 'a', '--config', file]),
    ]);
    const file4 = [/PORT/, /PORT/, /PORT/, /PORT/];
    const wanted = [/UNKEY_BUILDERD_PORT\?/, /want debug, info, warn, error/, ...file4];
    runs.forEach(({ code, stderr }, index) => {
      assert.equal(code, 2);
      assert.match(stderr, wanted[index] ?? /never/);
    });
  });
});

test('--validate-config says that a good configuration is good', async () => {
  const { code, stdout } = await runCli(['--validate-config'], {
    env: { UNKEY_BUILDERD_PORT: '9000' },
  });
  assert.equal(code, 0);
  assert.match(stdout, /^UNKEY_BUILDERD_PORT +environment +9000$/m);
  assert.match(stdout, /^The configuration is valid \(1 settings given\)$/m);
});

test('a missing socket exits 3 and leaves no file', async () => {
  await inTempDir(async (dir) => {
    const socket = join(dir, 'none.sock');
    const out = join(dir, 'x.ext4');
    const { code, stderr } = await runCli(
      ['build', 'debian', '-o', out, '--containerd-address', socket],
      { cwd: dir },
    );
    assert.equal(code, 3);
    assert.match(stderr, /no socket at .*none\.sock\nnext: Start containerd, or name its socket/);
    await assert.rejects(rm(out), { code: 'ENOENT' });
  });
});

test('UNKEY_BUILDERD_LOG_LEVEL=debug adds the stack to the sentence', async () => {
  const { stderr } = await runCli(['build', 'a', '--containerd-address', '/none/c.sock'], {
    env: { UNKEY_BUILDERD_LOG_LEVEL: 'debug' },
  });
  assert.match(stderr, /^builderd: Cannot [^]*\n\s+at .*src\/runtime\//);
});

/** A daemon that accepts and never answers. */
async function withSilentSocket(
  work: (socket: string, firstCall: Promise<void>) => Promise<void>,
): Promise<void> {
  await inTempDir(async (dir) => {
    const socket = join(dir, 'c.sock');
    const connections: Socket[] = [];
    const firstCall = Promise.withResolvers<void>();
    const server = createServer((connection) => {
      connections.push(connection);
      // A client that is killed resets its connection.
      connection.on('error', () => connection.destroy());
      firstCall.resolve();
    });
    await new Promise<void>((done) => server.listen(socket, done));
    try {
      await work(socket, firstCall.promise);
    } finally {
      for (const connection of connections) connection.destroy();
      await new Promise((done) => server.close(done));
    }
  });
}

const STOPS: readonly (readonly [NodeJS.Signals, number])[] = [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
];
for (const [signal, code] of STOPS) {
  test(`${signal} ends a build with ${code} and says so`, async () => {
    await withSilentSocket(async (socket, firstCall) => {
      const run = await runCli(['build', 'a', '--containerd-address', socket], {
        onStart: async (pid) => {
          await firstCall;
          process.kill(pid, signal);
        },
      });
      assert.equal(run.code, code);
      assert.match(run.stderr, new RegExp(`^builderd: Cannot .*: ${signal} stopped it$`, 'm'));
      assert.doesNotMatch(run.stderr, /\n\s+at /);
    });
  });
}

test('--timeout ends a build that hangs with build.timeout', async () => {
  await withSilentSocket(async (socket, firstCall) => {
    const args = ['build', 'a', '--timeout', '200ms', '--json', '--containerd-address', socket];
    const { code, stdout } = await runCli(args);
    await firstCall;
    assert.equal(code, 1);
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
    assert.equal(error.code, 'build.timeout');
    assert.match(error.message, /longer than 200 ms/);
  });
});

test('completion scripts are valid for their shells and know the options', async () => {
  await inTempDir(async (dir) => {
    const run = promisify(execFile);
    const { stdout } = await runHere(['completion', 'bash']);
    const file = join(dir, 'completion.bash');
    await writeFile(file, stdout);
    const ask = async (...words: readonly string[]): Promise<string[]> => {
      const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _builderd 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const answer = await run('bash', ['-c', script, 'bash', file, ...words]);
      return answer.stdout.trim().split('\n');
    };
    assert.deepEqual(await ask('builderd', 'do'), ['doctor']);
    assert.deepEqual(await ask('builderd', 'build', '--si'), ['--size']);
    assert.deepEqual(await ask('builderd', 'build', '--devices', 's'), ['standard']);
    assert.deepEqual(await ask('builderd', 'completion', ''), ['bash', 'zsh', 'fish']);
    assert.deepEqual(await ask('builderd', 'build', 'oci'), ['oci:', 'oci-archive:']);

    for (const shell of ['zsh', 'fish']) {
      const script = (await runHere(['completion', shell])).stdout;
      for (const word of ['doctor', 'guest-init', 'keep standard drop', 'docker-archive']) {
        assert.ok(script.includes(word), `${shell}: ${word}`);
      }
    }
  });
});

test('an older Node gets one clear sentence', async () => {
  // The launcher only asks process.versions; the real check on a real old Node is the same line.
  const preload = `data:text/javascript,Object.defineProperty(process.versions,"node",{value:"20.1.0"})`;
  const run = promisify(execFile);
  const reason = await run(process.execPath, ['--import', preload, LAUNCHER, 'version']).catch(
    (fault: unknown) => fault,
  );
  assert.ok(reason instanceof Error && 'code' in reason && 'stderr' in reason);
  assert.equal(reason.code, 2);
  assert.match(
    String(reason.stderr),
    /^builderd: Cannot start on Node 20\.1\.0: it needs Node 26 or later\nnext: .*\n$/,
  );
});
