import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { parseFromRole, readLines, type ToRole } from '../../src/cli/serve/role-protocol.ts';
import { stringMember } from '../fixtures/api.ts';
import { LAUNCHER } from '../fixtures/run-cli.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { Operator } from '../fixtures/whole-service.ts';

const CANARY = 'canary-in-memory';

async function waiting(operator: Operator): Promise<readonly string[]> {
  const answer = await operator.call('GET', '/v1/builds?limit=100', { tenant: 'acme' });
  assert.equal(answer.status, 200);
  const { builds } = (await answer.json()) as { builds: readonly unknown[] };
  for (const build of builds) assert.equal(stringMember(build, 'state'), 'pending');
  return builds.map((build) => stringMember(build, 'id'));
}

test('G11: an api or executor that crashes is started again, and the queue is as it was', async () => {
  // Without containerd nothing leaves the queue.
  await using service = await RunningService.start();
  const operator = new Operator(service, await service.operatorToken());
  await operator.tenant('acme');
  for (let n = 0; n < 5; n += 1) await operator.build('acme', `debian:${n}`, `key-${n}`);
  const before = await waiting(operator);
  assert.equal(before.length, 5);
  const crashes: readonly (readonly ['api' | 'executor', NodeJS.Signals])[] = [
    ['api', 'SIGSEGV'],
    ['executor', 'SIGABRT'],
    ['api', 'SIGBUS'],
  ];
  for (const [role, signal] of crashes) {
    const ready = service.find('A role is ready', { role }).length;
    process.kill(service.rolePid(role), signal);
    await service.until(
      () => service.find('A role is ready', { role }).length > ready,
      `a new ${role}`,
    );
    const ended = service.find('A role ended and will be started again', { role }).at(-1);
    assert.equal(ended?.['signal'], signal);
    assert.deepEqual(await waiting(operator), before, `after a crash of ${role}`);
  }
  // A repeat of what was asked before the crash is still known to be one.
  assert.equal(await operator.build('acme', 'debian:0', 'key-0'), before.at(-1));
  await operator.build('acme', 'debian:6', 'key-6');
  assert.equal((await waiting(operator)).length, 6);
});

/** Throws where nobody catches, as a fault in a library would. */
const THROWER = `data:text/javascript,${encodeURIComponent(
  `process.on('SIGUSR2', () => { setImmediate(() => { throw new Error('thrown by nobody ${CANARY}'); }); });`,
)}`;

test('G11: an exception that nobody catches is logged in the form of the log, masked, and ends the role', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'bd-crash-'));
  try {
    const flags = ['--disable-sigusr1', '--import', THROWER];
    const child = spawn(process.execPath, [...flags, LAUNCHER, 'role', 'api'], {
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'] },
    });
    const output = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
    const start: ToRole = {
      kind: 'start',
      files: {},
      restarts: 0,
      alone: true,
      environment: {
        UNKEY_BUILDERD_PORT: '0',
        UNKEY_BUILDERD_METRICS_PORT: '0',
        UNKEY_BUILDERD_DATABASE_DATA_DIR: path.join(dir, 'data'),
        UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: dir,
        UNKEY_BUILDERD_RUN_DIR: dir,
        UNKEY_BUILDERD_DATABASE_PASSWORD: CANARY,
      },
    };
    const closed = once(child, 'close');
    child.stdin.write(`${JSON.stringify(start)}\n`);
    const link = child.stdio[3];
    assert.ok(link instanceof Readable);
    for await (const line of readLines(link)) {
      const message = parseFromRole(line);
      if (message.kind === 'ready') break;
      assert.equal(message.kind, 'alive', line);
    }
    child.kill('SIGUSR2');
    const [code] = (await closed) as [number | null];
    assert.equal(code, 1, output.stderr);
    assert.match(output.stdout, /"level":"ERROR".*thrown by nobody \*\*\*.*"msg":"The role broke"/);
    assert.ok(!`${output.stdout}${output.stderr}`.includes(CANARY), 'it is masked');
    assert.equal(output.stderr, '', 'no stack for whoever reads standard error');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('H3: what a crash may leave holds no memory and no environment of the service', async () => {
  await using service = await RunningService.start({
    settings: { DATABASE_PASSWORD: CANARY },
    // Whoever starts the supervisor with such options still does not get them in the roles.
    environment: { NODE_OPTIONS: '--report-on-fatalerror --report-uncaught-exception' },
  });
  for (const pid of [service.pid, service.rolePid('api'), service.rolePid('executor')]) {
    const filter = await readFile(`/proc/${pid}/coredump_filter`, 'utf8');
    assert.match(filter, /^0+\n$/, `of ${pid}`);
    const limits = await readFile(`/proc/${pid}/limits`, 'utf8');
    assert.match(limits, /^Max core file size +0 +0 /m, `of ${pid}`);
    if (pid === service.pid) continue;
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1');
    assert.doesNotMatch(environment, /NODE_OPTIONS|UNKEY|canary/);
  }
});
