import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createReconciler } from '../../src/builds/executor/reconcile.ts';
import { openTestSqlite } from '../fixtures/databases.ts';
import { eventually, openExecutorService, QUICK } from '../fixtures/executor-service.ts';
import {
  failingConverter,
  failingDatabase,
  failingImages,
  failingStore,
  FaultPlan,
} from '../fixtures/failing-ports.ts';

/** Leases that end soon, so that a claim whose answer was lost is taken back within the test. */
const TIMES = {
  ...QUICK,
  leaseMs: 3000,
  leaseMarginMs: 1000,
  heartbeatMs: 500,
  controlMs: 500,
  probeMs: 1000,
};
const AT_ONCE = 16;

interface Outcome {
  readonly calls: number;
  readonly fired: string | undefined;
  readonly state: string;
  readonly broken: readonly string[];
}

/** One build, of whose calls the n-th breaks; then everything is looked at. */
async function buildWithFault(target: number | string, when: 'before' | 'after'): Promise<Outcome> {
  await using service = await openExecutorService(openTestSqlite);
  const plan = new FaultPlan(target, when);
  const { converter } = service.options();
  const ports = {
    database: failingDatabase(service.database, plan),
    artifacts: failingStore(service.artifacts, plan),
    images: failingImages(service.images, plan),
  };
  const tenant = await service.tenant('acme');
  let state: string;
  {
    await using running = service.start(
      { ...ports, converter: failingConverter(converter, plan), times: TIMES },
      ports,
    );
    await eventually('it may claim', () => running.executor.status().runtime.up);
    const password = 'a secret that nobody may see';
    const secrets = { username: 'me', password };
    plan.arm();
    const id = await service.submit(tenant, {}, { secrets });
    const build = await service.until(id);
    state = build.state === 'failed' ? `failed ${build.errorCode}` : build.state;
    await running.idle();
  }
  // As the next executor on this host would.
  using identity = service.identity();
  const reconciler = createReconciler({ ...service.options(), identity, graceMs: 0 });
  const call = { isRunning: () => false, signal: AbortSignal.timeout(30_000) };
  await reconciler.run(call);
  const again = await reconciler.run(call);
  assert.deepEqual(
    again.orphans,
    { build: 0, lease: 0, staging: 0, scratch: 0, blob: 0 },
    'I13: a second run did more',
  );
  const broken = await service.broken({ secrets: ['a secret that nobody may see'] });
  return { calls: plan.calls, fired: plan.fired, state, broken };
}

for (const when of ['before', 'after'] as const) {
  test(`every call that breaks ${when} it took effect leaves the invariants whole`, async () => {
    const { calls, broken } = await buildWithFault(Infinity, when);
    assert.deepEqual(broken, []);
    assert.ok(calls > 10, `only ${calls} calls`);
    // Most of the time of one is waiting for leases: several share the machine, none waits for another.
    const targets = Array.from({ length: calls + 1 }, (_, index) => index + 1).values();
    const work = async (): Promise<void> => {
      for (const target of targets) {
        const { fired = 'nothing', broken: found } = await buildWithFault(target, when);
        assert.deepEqual(found, [], `after a fault at: ${fired}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    // Nothing that is away for one call may cost the build. By name: how many calls come before one
    // of these is another number on every run.
    for (const name of ['commit', 'acquire', 'convert']) {
      const { fired, state, broken: found } = await buildWithFault(name, when);
      assert.deepEqual({ fired, state, found }, { fired: name, state: 'completed', found: [] });
    }
  });
}
