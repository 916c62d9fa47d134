import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
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
  const databaseUrl = await postgres.createDatabase();
  const settings = {
    ...groundSettings(ground),
    DATABASE_TYPE: 'postgres',
    DATABASE_URL: databaseUrl,
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
  const ends = await completedBy(databaseUrl);
  t.diagnostic(`completed by each executor: ${ends.join(' and ')}`);
  assert.equal(ends.length, 2, 'one executor did nothing');
  assert.equal(
    ends.reduce((sum, count) => sum + count, 0),
    BUILDS,
  );
});

/**
 * How many attempts each executor completed, by the database: an executor whose commit was not
 * answered before its lease was over cannot tell in its log that the build was completed.
 */
async function completedBy(url: string): Promise<number[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ completed: number }>(
      "select count(*)::int as completed from attempts where outcome = 'completed' group by owner",
    );
    return rows.map(({ completed }) => completed);
  } finally {
    await client.end();
  }
}
