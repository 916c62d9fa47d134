import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { postgresLack, startPrivatePostgres } from '../../contrib/dev/private-postgres.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { Random } from '../fixtures/random-tree.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { type Ground, groundSettings, makeGround, Operator } from '../fixtures/whole-service.ts';

/** 50 on demand: BUILDERD_TEST_CHAOS_BUILDS=50. */
const BUILDS = Number(process.env['BUILDERD_TEST_CHAOS_BUILDS'] ?? '20');
const SEED = Number(process.env['BUILDERD_TEST_CHAOS_SEED'] ?? Date.now() % 1_000_000);
const TENANTS = ['red', 'green', 'blue'];
const LIMIT_MS = 120_000 + BUILDS * 20_000;

/** Every process below the service that is not one of its two roles: launchers and workers. */
async function workersOf(service: RunningService): Promise<number[]> {
  const roles = [service.rolePid('api'), service.rolePid('executor')];
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!Number.isSafeInteger(pid) || pid === service.pid || roles.includes(pid)) continue;
    if (await isBelow(pid, service.pid)) found.push(pid);
  }
  return found;
}

async function isBelow(pid: number, ancestor: number): Promise<boolean> {
  for (let at = pid; at > 1; ) {
    if (at === ancestor) return true;
    const text = await readFile(`/proc/${at}/stat`, 'latin1').catch(() => '');
    at = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
  }
  return false;
}

function kill(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    // It has just ended.
    return false;
  }
}

async function strike(service: RunningService, ground: Ground, random: Random): Promise<string> {
  const [worker] = await workersOf(service);
  // Workers live shortly and are many; the other three need a moment to come back.
  switch (random.below(8)) {
    case 0:
      kill(service.rolePid('api'));
      return 'api';
    case 1:
      kill(service.rolePid('executor'));
      return 'executor';
    case 2:
      await ground.crashContainerd();
      return 'containerd';
    default:
      return worker !== undefined && kill(worker) ? 'worker' : 'no worker';
  }
}

async function survive(settings: Readonly<Record<string, string>>, say: (line: string) => void) {
  const random = new Random(SEED);
  await using ground = await makeGround();
  await using service = await RunningService.start({
    settings: { ...groundSettings(ground), LEASE_DURATION: '15s', ...settings },
  });
  const operator = new Operator(service, await service.operatorToken());
  for (const name of TENANTS) await operator.tenant(name);
  const asked: { tenant: string; id: string }[] = [];
  for (let n = 0; n < BUILDS; n += 1) {
    const tenant = TENANTS[n % TENANTS.length] ?? '';
    asked.push({ tenant, id: await operator.build(tenant, ground.reference, `key-${n}`) });
  }
  const watch = Promise.all(asked.map(({ tenant, id }) => operator.ended(tenant, id, LIMIT_MS)));
  const over = watch.then(
    () => true,
    () => true,
  );
  const strikes: string[] = [];
  while (!(await Promise.race([over, sleep(200 + random.below(900), false)]))) {
    strikes.push(await strike(service, ground, random));
  }
  const builds = await watch.catch((reason: unknown) => {
    say(`strikes: ${strikes.join(' ')}`);
    say(service.output.slice(-12_000));
    throw reason;
  });
  say(`seed ${SEED}, strikes: ${strikes.join(' ')}`);
  say(`attempts: ${builds.map(({ attempt }) => attempt).join(' ')}`);

  // A build that was struck three times is parked, with a fault of the platform; nothing else may fail.
  for (const build of builds) {
    const isParked = build.state === 'failed' && build.attempt >= 3;
    const { code, message } = build.error ?? { code: build.state, message: '' };
    const said = `attempt ${build.attempt} of ${build.id}: ${code}: ${message}`;
    assert.ok(build.state === 'completed' || isParked, said);
  }
  const disks = builds
    .filter(({ state }) => state === 'completed')
    .map(({ artifacts }) => artifacts.find(({ name }) => name === 'rootfs.ext4')?.digest);
  assert.ok(disks.length > 0, 'no build survived');
  assert.equal(new Set(disks).size, 1, 'the same image gave different disks');
  for (const { tenant, id } of asked) {
    const answer = await operator.call('GET', `/v1/builds/${id}/logs?from=0`, { tenant });
    assert.equal(answer.status, 200);
    await answer.body?.cancel();
  }
  const named = async (): Promise<ReadonlySet<string>> => {
    const all = await Promise.all(asked.map(({ tenant, id }) => operator.get(tenant, id)));
    return new Set(all.flatMap(({ artifacts }) => artifacts.map(({ digest }) => digest)));
  };
  await nothingIsLeft(service, ground, named);
}

async function nothingIsLeft(
  service: RunningService,
  ground: Ground,
  // Logs of builds that failed are named a while after their end.
  readNamed: () => Promise<ReadonlySet<string>>,
): Promise<void> {
  const left = async (): Promise<string[]> => [
    ...(await workersOf(service)).map((pid) => `worker ${pid}`),
    ...(await staged(join(service.dir, 'rootfs/.staging'))),
    ...(await leasesOf(ground)),
    ...(await scratchOf(service)),
    ...(await unnamedIn(service, await readNamed())),
  ];
  // What a kill left behind goes with the next reconcile.
  await service
    .until(async () => (await left()).length === 0, 'an empty house', 180_000)
    .catch(async (reason: unknown) => {
      throw new Error(`left: ${(await left()).join(', ')}`, { cause: reason });
    });
}

/** Unlinked at once when it is made, but for a kill in that moment. */
async function scratchOf({ dir }: RunningService): Promise<string[]> {
  const names = await readdir(join(dir, 'scratch')).catch(() => []);
  return names.filter((name) => name.startsWith('.')).map((name) => `scratch ${name}`);
}

/** Stored copies that no build names; what was deleted or replaced waits for its time in tests of its own. */
async function unnamedIn({ dir }: RunningService, named: ReadonlySet<string>): Promise<string[]> {
  const files = await readdir(join(dir, 'rootfs'), { recursive: true }).catch(() => []);
  return files.flatMap((file) => {
    const hex = /sha256\/[0-9a-f]{2}\/([0-9a-f]{64})\./.exec(file)?.[1];
    return hex === undefined || named.has(`sha256:${hex}`) ? [] : [`stored ${file}`];
  });
}

async function staged(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map(({ name }) => `staged ${name}`);
}

async function leasesOf({ containerdAddress }: Ground): Promise<string[]> {
  const ctr = (...args: string[]) => runProgram('ctr', ['--address', containerdAddress, ...args]);
  const names = (await ctr('namespaces', 'list', '-q')).trim().split('\n').filter(Boolean);
  const leases: string[] = [];
  for (const name of names) {
    const found = (await ctr('-n', name, 'leases', 'list', '-q'))
      .trim()
      .split('\n')
      .filter(Boolean);
    leases.push(...found.map((id) => `lease ${name}/${id}`));
  }
  return leases;
}

const options = { timeout: LIMIT_MS + 300_000 };

test('kill -9 of api, executor, workers and containerd loses no build (SQLite)', options, (t) =>
  survive({}, (line) => t.diagnostic(line)),
);

const lack = postgresLack();
suite('PostgreSQL', lack === undefined ? {} : { skip: lack }, () => {
  test('kill -9 of api, executor, workers and containerd loses no build', options, async (t) => {
    await using postgres = await startPrivatePostgres();
    const url = await postgres.createDatabase();
    await survive({ DATABASE_TYPE: 'postgres', DATABASE_URL: url }, (line) => t.diagnostic(line));
  });
});
