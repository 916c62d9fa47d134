import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { forEachDatabase, type OpenTestDatabase } from '../fixtures/databases.ts';
import { spawnExecutor } from '../fixtures/executor-process.ts';
import {
  eventually,
  type ExecutorService,
  openExecutorService,
} from '../fixtures/executor-service.ts';

/** Each place of an attempt between two durable effects, and the attempts that a crash there costs. */
const CRASHES = [
  ['executor.claimed', 2],
  ['attempt.claimed', 2],
  ['attempt.pulled', 2],
  ['attempt.staged', 2],
  ['attempt.converted', 2],
  ['attempt.stored', 2],
  ['attempt.completing', 2],
  ['attempt.completed', 1],
] as const;

const never = AbortSignal.timeout(10 * 60_000);

forEachDatabase((_name, openTestDatabase) => {
  // Mostly waits for processes to start: several at a time.
  suite('executors that die', { concurrency: 3 }, () => crashTests(openTestDatabase));
});

function crashTests(openTestDatabase: OpenTestDatabase): void {
  for (const [failpoint, attempts] of CRASHES) {
    test(`H16: kill -9 at ${failpoint} costs one attempt at most, and the next executor begins at once`, async () => {
      await using service = await openExecutorService(openTestDatabase);
      const password = 'what nobody may read';
      const secrets = { username: 'me', password };
      const id = await service.submit(await service.tenant('acme'), {}, { secrets });
      const { config, directory } = service;
      const failpoints = `${failpoint}=kill9`;
      await using victim = spawnExecutor({ config, directory, failpoints });
      assert.equal(await victim.ended, 'SIGKILL');
      // The lease of the dead lasts a minute: this test does not.
      await using running = service.start();
      const build = await service.until(id);
      assert.equal(build.state, 'completed', build.errorMessage ?? '');
      assert.equal(build.attempt, attempts);
      await running.idle();
      await eventually('nothing is left', async () => {
        const leases = await service.images.leases();
        const staged = await service.artifacts.stagedAttempts({ signal: never });
        return leases.length + staged.length === 0;
      });
      assert.deepEqual(await service.broken({ secrets: [password] }), []);
    });
  }

  test('a build that kills its executor every time is parked, and the queue goes on', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const tenant = await service.tenant('acme');
    const poison = await service.submit(tenant);
    const { config, directory } = service;
    for (let crash = 0; crash < 3; crash += 1) {
      await using victim = spawnExecutor({ config, directory, failpoints: 'attempt.pulled=kill9' });
      assert.equal(await victim.ended, 'SIGKILL');
    }
    await using running = service.start();
    const parked = await service.until(poison);
    assert.deepEqual([parked.state, parked.errorCode, parked.attempt], ['failed', 'build.lost', 3]);
    const next = await service.submit(tenant);
    assert.equal((await service.until(next)).state, 'completed');
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  test('an executor that slept through its lease commits nothing when it wakes', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const id = await service.submit(await service.tenant('acme'));
    const { config, directory } = service;
    await using sleeper = spawnExecutor({
      config,
      directory,
      host: 'sleeper',
      leaseMs: 1500,
      failpoints: 'attempt.completing=delay(5000)',
    });
    await service.until(id, ['optimizing']);
    await stopBetweenWrites(sleeper.child, service);
    // Another host: it cannot know that the first one is not dead.
    await using running = service.start({ host: 'other' });
    const build = await service.until(id);
    assert.deepEqual([build.state, build.attempt], ['completed', 2]);
    sleeper.child.kill('SIGCONT');
    await running.idle();
    await eventually('the sleeper took notice', async () => {
      const staged = await service.artifacts.stagedAttempts({ signal: never });
      return staged.length === 0 && (await service.images.leases()).length === 0;
    });
    const rows = await service.database.k
      .selectFrom('attempts')
      .select(['attempt', 'outcome', 'host'])
      .orderBy('attempt')
      .execute();
    assert.deepEqual(
      rows.map(({ outcome, host }) => `${host} ${outcome}`),
      ['sleeper lost', 'other completed'],
    );
    assert.deepEqual(await service.broken(), []);
  });
}

/**
 * Stops a process while it holds no lock: SQLite has one writer, and one that is stopped in the middle
 * of a write keeps everybody from writing.
 */
async function stopBetweenWrites(
  child: ChildProcess,
  { database }: ExecutorService,
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    child.kill('SIGSTOP');
    try {
      await database.transaction(async () => undefined, { signal: AbortSignal.timeout(300) });
      return;
    } catch (reason) {
      if (tries === 100) throw reason;
    }
    child.kill('SIGCONT');
    await sleep(20);
  }
}
