import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { postgresLack, startPrivatePostgres } from '../../contrib/dev/private-postgres.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { groundSettings, makeGround, Operator } from '../fixtures/whole-service.ts';

/** The numbers on demand: BUILDERD_TEST_REPLICA_BUILDS=200 BUILDERD_TEST_DATABASE_AWAY_MS=30000. */
const BUILDS = Number(process.env['BUILDERD_TEST_REPLICA_BUILDS'] ?? '24');
const AWAY_MS = Number(process.env['BUILDERD_TEST_DATABASE_AWAY_MS'] ?? '4000');
const TENANTS = ['red', 'green', 'blue'];
const LIMIT_MS = 120_000 + AWAY_MS + BUILDS * 5000;

test('two APIs and two executors share the builds of one PostgreSQL, which goes away in the middle', {
  skip: postgresLack() ?? false,
  timeout: LIMIT_MS + 120_000,
}, async (t) => {
  await using ground = await makeGround();
  await using postgres = await startPrivatePostgres();
  const settings = {
    ...groundSettings(ground),
    DATABASE_TYPE: 'postgres',
    DATABASE_URL: await postgres.createDatabase(),
    MASTER_KEY: randomBytes(32).toString('base64'),
    // One host, one store: both executors write into it, both APIs read from it.
    ROOTFS_OUTPUT_DIR: join(ground.dir, 'rootfs'),
    LEASE_DURATION: '20s',
  };
  await chmod(ground.dir, 0o755);
  await using first = await RunningService.start({ settings });
  const token = await first.operatorToken();
  await using second = await RunningService.start({ settings });
  const [one, two] = [new Operator(first, token), new Operator(second, token)];
  for (const name of TENANTS) await one.tenant(name);

  const asked: { tenant: string; id: string }[] = [];
  for (let n = 0; n < BUILDS; n += 1) {
    const tenant = TENANTS[n % TENANTS.length] ?? '';
    const operator = n % 2 === 0 ? one : two;
    asked.push({ tenant, id: await operator.build(tenant, ground.reference, `key-${n}`) });
    if (n === Math.floor(BUILDS / 2)) {
      await postgres.stop('immediate');
      await sleep(AWAY_MS);
      await postgres.start();
    }
  }
  // Each is asked for at the replica that did not take it.
  const builds = await Promise.all(
    asked.map(({ tenant, id }, n) => (n % 2 === 0 ? two : one).ended(tenant, id, LIMIT_MS)),
  );
  for (const { id, state, error } of builds) {
    assert.equal(state, 'completed', `${id}: ${JSON.stringify(error)}`);
  }
  const disks = builds.map(
    ({ artifacts }) => artifacts.find(({ name }) => name === 'rootfs.ext4')?.digest,
  );
  assert.equal(new Set(disks).size, 1);
  const ends = [first, second].map(
    (service) => service.find('Build ended', { build_status: 'completed' }).length,
  );
  t.diagnostic(`completed by each executor: ${ends.join(' and ')}`);
  assert.equal(ends[0] !== undefined && ends[1] !== undefined && ends[0] + ends[1], BUILDS);
  assert.ok(
    ends.every((count) => count > 0),
    `one executor did nothing: ${ends.join()}`,
  );
});
