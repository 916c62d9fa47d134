import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExecutorOptions } from '../../src/builds/executor/executor.ts';
import { KEEP, purgeDeleted, removeDeleted } from '../../src/builds/executor/housekeeping.ts';
import { cancelBuild } from '../../src/store/builds/cancel-build.ts';
import { deleteBuild } from '../../src/store/builds/delete-build.ts';
import type { BuildState } from '../../src/core/build-state.ts';
import { BuilderdError } from '../../src/core/errors.ts';
import { parseFailpoints } from '../../src/core/failpoint.ts';
import type { BuildId } from '../../src/core/ids.ts';
import { forEachDatabase, silentLog } from '../fixtures/databases.ts';
import {
  APP,
  eventually,
  type ExecutorService,
  openExecutorService,
  QUICK,
} from '../fixtures/executor-service.ts';
import { tarOf } from '../fixtures/small-tar.ts';
import { Gate, gatedConverter, gatedStore } from '../fixtures/gates.ts';

const soon = (): { readonly signal: AbortSignal } => ({ signal: AbortSignal.timeout(30_000) });

async function attemptsOf(service: ExecutorService, id: BuildId): Promise<string[]> {
  const rows = await service.database.k
    .selectFrom('attempts')
    .select(['outcome', 'error_code'])
    .where('build_id', '=', id)
    .orderBy('attempt')
    .execute();
  return rows.map(({ outcome, error_code }) => `${outcome} ${error_code ?? ''}`.trim());
}

/** Of root file systems: small documents and logs of other builds are left out. */
async function storedCopies({ artifacts }: ExecutorService): Promise<number[]> {
  const sizes: number[] = [];
  for await (const file of artifacts.list(soon())) {
    if (file.kind === 'blob' && file.storedBytes > 1024 ** 2) sizes.push(file.storedBytes);
  }
  return sizes;
}

async function cancel(service: ExecutorService, id: BuildId): Promise<void> {
  const { tenantId } = await service.build(id);
  await service.database.transaction((tx) => cancelBuild(tx, tenantId, id), soon());
  service.database.ring('control');
}

forEachDatabase((_name, openTestDatabase) => {
  test("a fault of the build's own ends it at once", async () => {
    await using service = await openExecutorService(openTestDatabase);
    await using running = service.start();
    const tenant = await service.tenant('acme');
    const id = await service.submit(tenant, { reference: 'example.test/none:1' });
    const build = await service.until(id);
    assert.deepEqual([build.state, build.errorCode], ['failed', 'source.not_found']);
    assert.deepEqual(await attemptsOf(service, id), ['failed source.not_found']);
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  test('a fault of the platform is tried again, and three times at most', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const tenant = await service.tenant('acme');
    let pulls = 0;
    let failing = 2;
    service.images.duringPull = async () => {
      pulls += 1;
      if (pulls > failing) return;
      throw new BuilderdError('source.unreachable', 'Cannot pull: the network is away');
    };
    await using running = service.start();
    const good = await service.submit(tenant);
    assert.equal((await service.until(good)).state, 'completed');
    const tried = 'retried source.unreachable';
    assert.deepEqual(await attemptsOf(service, good), [tried, tried, 'completed']);
    failing = Infinity;
    const bad = await service.submit(tenant);
    const build = await service.until(bad);
    assert.deepEqual([build.state, build.errorCode], ['failed', 'source.unreachable']);
    assert.deepEqual(await attemptsOf(service, bad), [tried, tried, tried]);
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  const gated: readonly [
    BuildState,
    (service: ExecutorService, gate: Gate) => Partial<ExecutorOptions>,
  ][] = [
    [
      'pulling',
      (service, gate) => {
        service.images.duringPull = (signal) => gate.pass(signal);
        return {};
      },
    ],
    [
      'extracting',
      (service, gate) => ({
        converter: gatedConverter(service.options().converter, gate, 'convert'),
      }),
    ],
    [
      'building',
      (service, gate) => ({
        converter: gatedConverter(service.options().converter, gate, 'write'),
      }),
    ],
    ['optimizing', (service, gate) => ({ artifacts: gatedStore(service.artifacts, gate) })],
  ];

  for (const [state, hold] of gated) {
    test(`a build is cancelled while it is ${state}, and nothing is left of it`, async () => {
      await using service = await openExecutorService(openTestDatabase);
      const gate = new Gate();
      await using running = service.start(hold(service, gate));
      const id = await service.submit(await service.tenant('acme'));
      await gate.reached;
      await service.until(id, [state]);
      await cancel(service, id);
      assert.equal((await service.until(id)).state, 'cancelled');
      assert.deepEqual(await attemptsOf(service, id), ['cancelled']);
      await running.idle();
      assert.deepEqual(await service.broken(), []);
    });

    test(`the deadline ends a build that is ${state}`, async () => {
      await using service = await openExecutorService(openTestDatabase);
      const gate = new Gate();
      await using running = service.start(hold(service, gate));
      const id = await service.submit(await service.tenant('acme'), {}, { timeoutMs: 700 });
      const build = await service.until(id);
      assert.deepEqual([build.state, build.errorCode], ['failed', 'build.timeout']);
      await running.idle();
      assert.deepEqual(await service.broken(), []);
    });

    test(`a build that is ${state} when the executor drains is handed back, not counted`, async () => {
      await using service = await openExecutorService(openTestDatabase);
      const gate = new Gate();
      const id = await service.submit(await service.tenant('acme'));
      {
        await using first = service.start(hold(service, gate));
        await gate.reached;
        await first.executor.drain({ windowMs: 100 });
        assert.equal((await service.build(id)).state, 'pending');
      }
      gate.open();
      await using second = service.start();
      assert.equal((await service.until(id)).state, 'completed');
      assert.deepEqual(await attemptsOf(service, id), [
        'handed back service.unavailable',
        'completed',
      ]);
      await second.idle();
      assert.deepEqual(await service.broken(), []);
    });
  }

  test('a drain lets a running build finish within its window and claims nothing more', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const gate = new Gate();
    service.images.duringPull = (signal) => gate.pass(signal);
    const tenant = await service.tenant('acme');
    const first = await service.submit(tenant);
    await using running = service.start();
    await gate.reached;
    const drained = running.executor.drain({ windowMs: 30_000 });
    const second = await service.submit(tenant);
    gate.open();
    await drained;
    assert.equal((await service.build(first)).state, 'completed');
    assert.equal((await service.build(second)).state, 'pending');
    assert.equal(running.executor.status().draining, true);
  });

  test('a claim that was under way when the drain began is handed back, and the drain waits for it', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const id = await service.submit(await service.tenant('acme'));
    const failpoints = parseFailpoints('executor.claimed=1*delay(1000)');
    await using running = service.start({ failpoints });
    await service.until(id, ['pulling']);
    await running.executor.drain({ windowMs: 30_000 });
    assert.equal((await service.build(id)).state, 'pending');
    assert.deepEqual(await attemptsOf(service, id), ['handed back service.unavailable']);
  });

  test('an executor that cannot renew its lease stops by itself and commits nothing', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const gate = new Gate();
    const artifacts = gatedStore(service.artifacts, gate);
    const id = await service.submit(await service.tenant('acme'));
    {
      await using stuck = service.start({
        artifacts,
        times: {
          ...QUICK,
          leaseMs: 1000,
          leaseMarginMs: 500,
          heartbeatMs: 600_000,
          reconcileMs: 600_000,
        },
      });
      await gate.reached;
      await stuck.idle();
      // Not even that it cleans up: it may no longer write.
      assert.equal((await service.build(id)).state, 'optimizing');
    }
    await using running = service.start();
    assert.equal((await service.until(id)).state, 'completed');
    assert.deepEqual(await attemptsOf(service, id), ['lost build.lost', 'completed']);
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  test('while containerd is down nothing is claimed, and it goes on by itself', async () => {
    await using service = await openExecutorService(openTestDatabase);
    service.images.isDown = true;
    await using running = service.start();
    const id = await service.submit(await service.tenant('acme'));
    await eventually('the row says so', async () => {
      const [row] = await service.database.k.selectFrom('executors').selectAll().execute();
      return row?.capabilities.includes('"runtimeAvailable":false') === true;
    });
    assert.equal((await service.build(id)).state, 'pending');
    assert.equal(running.executor.status().runtime.up, false);
    service.images.isDown = false;
    assert.equal((await service.until(id)).state, 'completed');
  });

  test('artifacts that would pass the storage quota are not kept', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const tenant = await service.tenant('acme', { maxStorageBytes: 1024 ** 2 });
    const layer = tarOf([{ name: 'large', content: Buffer.alloc(1024 ** 2, 'x') }]);
    await service.images.add(APP, { layers: [layer] });
    await using running = service.start();
    const id = await service.submit(tenant);
    const build = await service.until(id);
    assert.deepEqual([build.state, build.errorCode], ['failed', 'quota.exceeded']);
    const violations = await service.database.k
      .selectFrom('quota_violations')
      .selectAll()
      .execute();
    assert.deepEqual(
      violations.map(({ quota_type }) => quota_type),
      ['storage'],
    );
    await running.idle();
    assert.deepEqual(await service.broken(), []);
    assert.deepEqual(await storedCopies(service), [], 'its bytes are gone with it');
  });

  test('bytes of a deleted build count until they are gone: a tenant cannot fill a disk in turns', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database, artifacts } = service;
    const tenant = await service.tenant('acme', { maxStorageBytes: 3 * 1024 ** 2 });
    await using running = service.start();
    const run = async (fill: string): Promise<BuildId> => {
      const layer = tarOf([{ name: 'large', content: Buffer.alloc(2 * 1024 ** 2, fill) }]);
      await service.images.add(APP, { layers: [layer] });
      return await service.submit(tenant);
    };
    const first = await run('x');
    assert.equal((await service.until(first)).state, 'completed');
    await running.idle();
    const signal = AbortSignal.timeout(60_000);
    await database.transaction((tx) => deleteBuild(tx, tenant.id, first, { force: false }), {
      signal,
    });
    await purgeDeleted({ database, log: silentLog }, { signal });
    const second = await service.until(await run('y'));
    assert.deepEqual([second.state, second.errorCode], ['failed', 'quota.exceeded']);
    assert.match(second.errorMessage ?? '', /deleted and not yet removed/);
    const deps = { database, artifacts, log: silentLog };
    await removeDeleted(deps, { ...KEEP, releasedMs: 0 }, { signal });
    assert.deepEqual(await storedCopies(service), []);
    assert.equal((await service.until(await run('z'))).state, 'completed');
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  test('a registry that the tenant may no longer use is refused when the build starts', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const tenant = await service.tenant('acme', { allowedRegistries: ['docker.io'] });
    await using running = service.start();
    const build = await service.until(await service.submit(tenant));
    assert.deepEqual([build.state, build.errorCode], ['failed', 'quota.denied']);
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  test('a worker that lies about what it wrote fails the build and nothing is kept', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const honest = service.options().converter;
    await using running = service.start({
      converter: {
        async convert(job, call) {
          const converted = await honest.convert(job, call);
          await job.outputs[0]?.handle.write(Buffer.from('changed'), 0, 7, 4096);
          return converted;
        },
      },
    });
    const build = await service.until(await service.submit(await service.tenant('acme')));
    assert.deepEqual([build.state, build.errorCode], ['failed', 'internal']);
    await running.idle();
    assert.deepEqual(await service.broken({ mayBeInternal: true }), []);
  });

  test('the login of the request opens its registry; no row and no log shows it', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const password = 'correct horse battery staple';
    const layer = tarOf([{ name: 'secret', content: 'none' }]);
    await service.images.add(APP, { layers: [layer], password });
    const tenant = await service.tenant('acme');
    await using running = service.start();
    const without = await service.until(await service.submit(tenant));
    assert.equal(without.errorCode, 'source.auth_failed');
    const secrets = { username: 'me', password };
    const build = await service.until(await service.submit(tenant, {}, { secrets }));
    assert.equal(build.state, 'completed', build.errorMessage ?? '');
    await running.idle();
    assert.deepEqual(await service.broken({ secrets: [password] }), []);
  });

  test('a running build that is deleted by force stops and is gone', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const gate = new Gate();
    service.images.duringPull = (signal) => gate.pass(signal);
    const tenant = await service.tenant('acme');
    await using running = service.start();
    const id = await service.submit(tenant);
    await gate.reached;
    await service.database.transaction(
      (tx) => deleteBuild(tx, tenant.id, id, { force: true }),
      soon(),
    );
    service.database.ring('control');
    await eventually('its rows are gone', async () => {
      const rows = await service.database.k.selectFrom('builds').select('id').execute();
      return rows.length === 0;
    });
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });
});
