import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { RunningService } from '../fixtures/running-service.ts';

const RELOADS = 100;

async function statusLine(pid: number, name: string): Promise<string> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(text)?.[1] ?? '';
}

test('builderd serve runs an api without rights and an executor, and ends in order on SIGTERM', async () => {
  await using service = await RunningService.start({
    settings: { DATABASE_PASSWORD: 'canary-hunter2', DATABASE_TYPE: 'sqlite' },
  });
  const [api, executor] = [service.rolePid('api'), service.rolePid('executor')];
  const { uid } = await stat(path.join(service.dir, 'data'));
  assert.notEqual(uid, 0);
  assert.equal(await statusLine(api, 'Uid'), [uid, uid, uid, uid].join('\t'));
  assert.equal(await statusLine(api, 'CapEff'), '0000000000000000');
  assert.equal(await statusLine(api, 'CapPrm'), '0000000000000000');
  assert.equal(await statusLine(api, 'NoNewPrivs'), '1');
  assert.equal(await statusLine(executor, 'Uid'), [0, 0, 0, 0].join('\t'));
  for (const pid of [service.pid, api, executor])
    assert.equal(await statusLine(pid, 'Name'), 'builderd');
  // No secret stands where other users of the host may look.
  for (const pid of [api, executor]) {
    assert.doesNotMatch(await readFile(`/proc/${pid}/environ`, 'latin1'), /UNKEY|hunter2/);
    assert.doesNotMatch(await readFile(`/proc/${pid}/cmdline`, 'latin1'), /hunter2/);
  }

  const modes = new Map([
    ['data', 0o700],
    ['rootfs', 0o750],
    ['cache', 0o750],
    ['workspace', 0o750],
    ['scratch', 0o750],
    ['run', 0o750],
  ]);
  for (const [name, mode] of modes) {
    const found = await stat(path.join(service.dir, name));
    assert.equal(found.mode & 0o7777, mode, name);
    assert.equal(found.uid, name === 'data' ? uid : 0, name);
  }
  assert.equal((await stat(path.join(service.dir, 'run/executor.sock'))).mode & 0o777, 0o660);

  const health = await fetch(`${service.apiUrl}/health`);
  assert.equal(health.status, 200);
  assert.equal(await health.text(), 'ok\n');
  // There is no containerd at all in this test.
  assert.equal((await fetch(`${service.apiUrl}/health/ready`)).status, 503);

  const refused = await fetch(`${service.apiUrl}/debug/status`);
  assert.equal(refused.status, 401);
  const token = await service.operatorToken();
  const answer = await fetch(`${service.apiUrl}/debug/status`, {
    headers: { authorization: `Bearer ${token}` },
  });
  assert.equal(answer.status, 200);
  const text = await answer.text();
  assert.doesNotMatch(text, /hunter2/);
  assert.match(text, /"problems":\["containerd does not answer/);
  assert.match(text, /"id":"kernel.version"/);
  assert.match(text, /"database":\{"type":"sqlite","pingMs":\d+,"queue":\{"size":0,/);
  assert.match(text, /"DATABASE_PASSWORD":"\*\*\*"/);
  assert.ok(!service.output.includes(token), 'the token is in no log');

  assert.equal(await service.stop(), 0);
  assert.equal(service.find('The service has ended').length, 1);
  assert.doesNotMatch(service.output, /hunter2/);
  await assert.rejects(stat(path.join(service.dir, 'run/executor.sock')), { code: 'ENOENT' });
});

test('a role that is killed comes back, and the other one goes on', async () => {
  await using service = await RunningService.start();
  const { apiUrl } = service;
  const [api, executor] = [service.rolePid('api'), service.rolePid('executor')];
  process.kill(executor, 'SIGKILL');
  await service.until(
    () => service.find('A role is ready', { role: 'executor' }).length === 2,
    'a new executor',
  );
  assert.notEqual(service.rolePid('executor'), executor);
  assert.equal(service.rolePid('api'), api);
  assert.equal((await fetch(`${apiUrl}/health`)).status, 200);
  const ended = service.find('A role ended and will be started again', { role: 'executor' });
  assert.deepEqual(
    ended.map((line) => [line['level'], line['signal']]),
    [['ERROR', 'SIGKILL']],
  );
  assert.match(await service.metrics(), /^builderd_role_restarts\{role="executor"\} 1$/m);

  process.kill(api, 'SIGKILL');
  await service.until(
    () => service.find('A role is ready', { role: 'api' }).length === 2,
    'a new api',
  );
  assert.match(await service.metrics(), /^builderd_role_up\{role="executor"\} 1$/m);

  // The supervisor itself: its roles must not stay behind.
  const pids = [service.rolePid('api'), service.rolePid('executor')];
  service.signal('SIGKILL');
  await service.ended;
  const deadline = performance.now() + 60_000;
  const alive = async (pid: number): Promise<boolean> =>
    stat(`/proc/${pid}`).then(
      () => true,
      () => false,
    );
  for (const pid of pids) {
    while (await alive(pid))
      assert.ok(performance.now() < deadline, `role ${pid} outlives its supervisor`);
  }
});

test('H6: SIGHUP a hundred times, good and broken files: the last good one is in effect', async () => {
  await using service = await RunningService.start();
  const pids = [service.rolePid('api'), service.rolePid('executor')];
  const reads = (): number =>
    service.find('Read the settings again').length +
    service.find('Cannot reload: the old settings stay').length;
  for (let turn = 0; turn < RELOADS; turn += 1) {
    const broken = turn % 2 === 1;
    await service.configure(
      broken
        ? { MAX_CONCURRENT_BUILDS: 'many', LOG_LEVEL: 'error' }
        : { MAX_CONCURRENT_BUILDS: String(turn + 1) },
    );
    const before = reads();
    service.signal('SIGHUP');
    await service.until(() => reads() > before, `reload ${turn}`);
  }
  assert.equal(service.find('Read the settings again').length, RELOADS / 2);
  assert.equal(service.find('Cannot reload: the old settings stay').length, RELOADS / 2);
  const last = String(RELOADS - 1);
  await service.until(
    () =>
      service.find('Applied the reloaded settings', { role: 'executor' }).length === RELOADS / 2,
    'all reloads to be taken over',
  );
  const token = await service.operatorToken();
  const status = await fetch(`${service.apiUrl}/debug/status`, {
    headers: { authorization: `Bearer ${token}` },
  });
  assert.match(await status.text(), new RegExp(`"slots":${last},`));
  assert.deepEqual([service.rolePid('api'), service.rolePid('executor')], pids);

  // What cannot change while it runs is named, and nothing else happens.
  await service.configure({ MAX_CONCURRENT_BUILDS: last, METRICS_MAX_TENANTS: '7' });
  service.signal('SIGHUP');
  await service.until(
    () => service.find('These settings take effect after a restart').length === 2,
    'a warning of each role',
  );
  for (const line of service.find('These settings take effect after a restart'))
    assert.equal(line['setting'], 'METRICS_MAX_TENANTS');
});

test('H4: SIGUSR1 opens no debugger in any process', async () => {
  await using service = await RunningService.start();
  const pids = [service.pid, service.rolePid('api'), service.rolePid('executor')];
  for (const pid of pids) process.kill(pid, 'SIGUSR1');
  await service.until(() => service.find('Ignored a signal').length === 1, 'the signal');
  assert.equal((await fetch(`${service.apiUrl}/health`)).status, 200);
  const { stdout } = await promisify(execFile)('grep', ['-c', ':240D ', '/proc/net/tcp']).catch(
    () => ({ stdout: '0' }),
  );
  assert.equal(stdout.trim(), '0', 'port 9229 is open');
  assert.doesNotMatch(service.stderr, /Debugger listening/);
  assert.deepEqual([service.pid, service.rolePid('api'), service.rolePid('executor')], pids);
});

const REFUSED: readonly (readonly [Readonly<Record<string, string>>, number, RegExp])[] = [
  [{ SERVICE_USER: 'no-such-account' }, 2, /there is no such account; make it with `useradd /],
  [{ SERVICE_USER: 'root' }, 2, /it is root, which is what the API must not be/],
  [{ AUTH_MODE: 'development', HOST: '0.0.0.0' }, 2, /HOST must be a loopback address/],
  [{ TLS_MODE: 'spiffe' }, 2, /TLS_MODE spiffe is not built/],
  [
    { TLS_MODE: 'file', TLS_CERT_FILE: '/none', TLS_KEY_FILE: '/none' },
    2,
    /Cannot read UNKEY_BUILDERD_TLS_CERT_FILE/,
  ],
  [{ ENABLE_ISOLATION: 'false' }, 2, /ENABLE_ISOLATION false .* needs AUTH_MODE development/],
  [{ OPERATOR_TOKEN_FILE: '/none' }, 2, /Cannot run the api: Cannot use the operator token/],
];
for (const [settings, code, sentence] of REFUSED) {
  test(`builderd serve ends with a sentence for ${JSON.stringify(settings)}`, async () => {
    await using service = await RunningService.launch({ settings });
    assert.equal(await service.ended, code);
    assert.match(service.stderr, sentence);
    assert.match(service.stderr, /^builderd: Cannot .*\nnext: .*\.\n$/m);
  });
}

test('a second service of this host does not start with the ids that the workers of the first have', async () => {
  // Of this test alone; a service that names none takes others.
  const settings = { WORKER_ID_BASE: String(0x6600_0000) };
  await using first = await RunningService.start({ settings });
  await using second = await RunningService.launch({ settings });
  assert.equal(await second.ended, 2);
  assert.match(
    second.stderr,
    /Cannot run the executor: Cannot give workers the ids from 1711276032 on: another service of this host does; give each its own UNKEY_BUILDERD_WORKER_ID_BASE/,
  );
  assert.equal(await first.stop(), 0);
  await using third = await RunningService.start({ settings });
  assert.equal(await third.stop(), 0);
});
