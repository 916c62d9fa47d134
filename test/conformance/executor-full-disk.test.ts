import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Converter } from '../../src/builds/worker/converter.ts';
import { BuilderdError } from '../../src/core/errors.ts';
import type { ArtifactStore, StoreSpace } from '../../src/store/artifacts/artifact-store.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import {
  eventually,
  type ExecutorService,
  openExecutorService,
  QUICK,
} from '../fixtures/executor-service.ts';

const GIB = 1024 ** 3;
const FULL = new BuilderdError('storage.full', 'Cannot write: the disk is full (ENOSPC)');

/** As when the worker writes to a disk that has no room, for the first `times` builds. */
function fullFor(inner: Converter, times: number): Converter {
  let failed = 0;
  return {
    async convert(job, call) {
      failed += 1;
      if (failed <= times) throw FULL;
      return inner.convert(job, call);
    },
  };
}

function withSpace(inner: ArtifactStore, space: StoreSpace): ArtifactStore {
  return new Proxy(inner, {
    get(target, name) {
      if (name === 'space') return async (): Promise<StoreSpace> => space;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

async function outcomes({ database }: ExecutorService): Promise<string[]> {
  const rows = await database.k
    .selectFrom('attempts')
    .select(['outcome', 'error_code'])
    .orderBy('started_at')
    .orderBy('attempt')
    .execute();
  return rows.map(({ outcome, error_code }) => `${outcome} ${error_code ?? ''}`.trim());
}

forEachDatabase((_name, openTestDatabase) => {
  test('a full disk is no fault of the build: it is tried again, and the host takes no other meanwhile', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { artifacts } = service;
    let asked = 0;
    const { converter, readHost } = service.options();
    await using running = service.start({
      converter: fullFor(converter, 1),
      artifacts: withSpace(artifacts, { freeBytes: 1000, totalBytes: 100 * GIB }),
      readHost: (call) => {
        asked += 1;
        return readHost(call);
      },
      slots: 1,
      times: { ...QUICK, diskFullMs: 600_000 },
    });
    const tenant = await service.tenant('acme');
    const id = await service.submit(tenant);
    await eventually('the attempt is over', async () => (await outcomes(service)).length > 0);
    await running.idle();
    assert.deepEqual(await outcomes(service), ['retried storage.full']);
    await eventually(
      'there is no room',
      async () => running.executor.status().room?.freeDiskBytes === 0,
    );
    const other = await service.submit(tenant);
    const before = asked;
    await eventually('the host was looked at again and again', async () => asked > before + 5);
    for (const waiting of [id, other]) {
      const build = await service.build(waiting);
      assert.deepEqual([build.state, build.attempt], ['pending', waiting === id ? 1 : 0]);
    }
  });

  test('after its pause the host goes on, and what met the full disk is completed', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { converter } = service.options();
    const space = { freeBytes: 1000, totalBytes: 100 * GIB };
    await using running = service.start({
      converter: fullFor(converter, 2),
      artifacts: withSpace(service.artifacts, space),
      slots: 1,
      times: { ...QUICK, diskFullMs: 200 },
    });
    const build = await service.until(await service.submit(await service.tenant('acme')));
    assert.deepEqual([build.state, build.attempt], ['completed', 3], build.errorMessage ?? '');
    await running.idle();
    assert.deepEqual(await service.broken(), []);
  });

  test('a worker that only says that the disk is full stops nobody else', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { converter } = service.options();
    await using running = service.start({
      converter: fullFor(converter, 3),
      artifacts: withSpace(service.artifacts, { freeBytes: 90 * GIB, totalBytes: 100 * GIB }),
      slots: 1,
      times: { ...QUICK, diskFullMs: 600_000 },
    });
    const tenant = await service.tenant('acme');
    const liar = await service.until(await service.submit(tenant));
    assert.deepEqual([liar.state, liar.errorCode, liar.attempt], ['failed', 'storage.full', 3]);
    assert.equal((await service.until(await service.submit(tenant))).state, 'completed');
    await running.idle();
  });
});
