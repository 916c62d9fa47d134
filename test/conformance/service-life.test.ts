import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exportLog } from '../../src/builds/logs/export-log.ts';
import { openLogWriter } from '../../src/builds/logs/log-writer.ts';
import { BuilderdError } from '../../src/core/errors.ts';
import { insertArtifacts } from '../../src/store/artifacts/artifact-rows.ts';
import type { Database } from '../../src/store/database.ts';
import { trimSegments } from '../../src/store/logs/trim-segments.ts';
import type { Claim } from '../../src/store/queue/claim.ts';
import { claimBuild } from '../../src/store/queue/claim-build.ts';
import { completeBuild } from '../../src/store/queue/complete-build.ts';
import { endBuild } from '../../src/store/queue/end-build.ts';
import { enterState } from '../../src/store/queue/enter-state.ts';
import { retryBuild } from '../../src/store/queue/retry-build.ts';
import { CALLER, call, IMAGE, serviceOn } from '../fixtures/build-service.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

const FACTS = {
  image: {
    originalImage: 'debian:12',
    imageDigest: `sha256:${'1'.repeat(64)}`,
    layers: [`sha256:${'2'.repeat(64)}`],
    labels: { a: 'b' },
    command: ['bash'],
    entrypoint: [],
    workingDir: '/',
    env: { PATH: '/bin' },
    exposedPorts: ['80/tcp'],
    user: '0:0',
    volumes: [],
  },
  metrics: {
    pullDurationMs: 1,
    extractDurationMs: 2,
    buildDurationMs: 3,
    optimizeDurationMs: 4,
    totalDurationMs: 10,
    originalSizeBytes: 100,
    rootfsSizeBytes: 200,
    compressionRatio: 50,
    memoryPeakBytes: 5,
    diskUsageBytes: 6,
    cpuCoresUsed: 1,
    cpuUs: 7,
    pulledBytes: 8,
  },
  isolation: {
    sandboxId: 'worker-1',
    networkNamespace: 'net',
    filesystemNamespace: 'mnt',
    securityContexts: ['no_new_privs'],
    cgroupPath: '',
  },
  sourceReference: 'docker.io/library/debian:12',
  sourceDigest: `sha256:${'1'.repeat(64)}`,
};

forEachDatabase((_name, openTestDatabase) => {
  test('get() shows the whole life of a build that was tried twice and completed', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database, blobs } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;

    const first = await claim(database);
    await say(database, first, 'first try');
    const error = new BuilderdError('source.unreachable', 'Cannot reach the registry: test');
    await database.transaction(
      (tx) => retryBuild(tx, fenceOf(first), { delayMs: 60_000, error }),
      call(),
    );
    const waiting = await service.get(tenant, id, call());
    assert.deepEqual([waiting.state, waiting.waiting?.reason], ['pending', 'retry_delay']);
    await database.k.updateTable('builds').set({ not_before: 0 }).execute();

    const second = await claim(database);
    for (const state of ['extracting', 'building', 'optimizing'] as const) {
      await database.transaction(
        (tx) => enterState(tx, fenceOf(second), { state, step: state, progress: 50 }),
        call(),
      );
    }
    await say(database, second, 'second try');
    const pieces: Buffer[] = [];
    for await (const piece of exportLog(database, id)) pieces.push(piece);
    const named = (name: string, bytes: Buffer) => ({
      name,
      format: name.slice(name.lastIndexOf('.') + 1),
      mediaType: 'application/octet-stream',
      blob: blobs.put(tenant.id, bytes),
    });
    const artifacts = [
      named('rootfs.ext4', Buffer.alloc(4096)),
      named('build.log', Buffer.concat(pieces)),
    ];
    await database.transaction(async (tx) => {
      await insertArtifacts(tx, { tenantId: tenant.id, buildId: id, artifacts });
      await completeBuild(tx, fenceOf(second), { ...FACTS, writtenBytes: 4096 });
      await trimSegments(tx, id);
    }, call());

    const view = await service.get(tenant, id, call());
    assert.equal(view.state, 'completed');
    assert.equal(view.attempt, 2);
    assert.equal(view.progressPercent, 100);
    assert.deepEqual(view.image, FACTS.image);
    assert.deepEqual(view.metrics, FACTS.metrics);
    assert.deepEqual(view.isolation, FACTS.isolation);
    assert.deepEqual(view.source, { reference: FACTS.sourceReference, digest: FACTS.sourceDigest });
    assert.deepEqual(
      view.steps.map(({ attempt, state }) => `${attempt} ${state}`),
      ['1 pulling', '2 pulling', '2 extracting', '2 building', '2 optimizing'],
    );
    assert.ok(view.steps.every(({ finishedAt }) => finishedAt !== undefined));
    assert.deepEqual(
      view.artifacts.map(({ name }) => name),
      ['build.log', 'rootfs.ext4'],
    );
    assert.deepEqual(await service.artifacts(tenant, id, call()), view.artifacts);
    const log = await service.readLog(tenant, id, { ...call(), from: 0, limit: 10 });
    assert.equal(log.ended, true);
    assert.deepEqual(
      log.entries.map(({ n, message }) => `${n} ${message}`),
      ['0 first try', '1 Attempt 2 begins', '2 second try'],
    );
    const stats = await service.stats(tenant, {}, call());
    assert.equal(stats.totalStorageBytes, 4096 + Buffer.concat(pieces).length);
  });

  test('get() says why a build failed, whose fault it was and what to do', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    const fence = fenceOf(await claim(database));
    const error = new BuilderdError('source.not_found', 'Cannot find debian:12: no such tag');
    await database.transaction((tx) => endBuild(tx, fence, { state: 'failed', error }), call());
    const view = await service.get(tenant, id, call());
    assert.deepEqual(view.error, {
      code: 'source.not_found',
      message: 'Cannot find debian:12: no such tag',
      fault: 'user',
      hint: error.entry.hint,
    });
    const log = await service.readLog(tenant, id, { ...call(), from: 0, limit: 10 });
    assert.deepEqual(log, { entries: [], ended: true });
  });

  test('cancels and claims of many builds at once leave each cancelled or held and told', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme', { maxConcurrentBuilds: 100 });
    const ids = await Promise.all(
      Array.from(
        { length: 30 },
        async () => (await service.create(CALLER, tenant, IMAGE, call())).build.id,
      ),
    );
    const claims = Promise.all(Array.from({ length: 20 }, () => tryClaim(database)));
    await Promise.all(ids.map((id) => service.cancel(CALLER, tenant, id, call())));
    const held = new Set((await claims).map((one) => one?.buildId));
    for (const id of ids) {
      const view = await service.get(tenant, id, call());
      if (held.has(id)) assert.deepEqual([view.state, view.cancelRequested], ['pulling', true]);
      else assert.equal(view.state, 'cancelled');
    }
  });
});

function tryClaim(database: Database): Promise<Claim | undefined> {
  return claimBuild(database, {
    owner: 'executor-1',
    host: 'host-1',
    leaseMs: 60_000,
    slots: { count: 100 },
    maxConcurrent: 100,
    freeMemoryBytes: 2 ** 50,
    freeDiskBytes: 2 ** 50,
    ...call(),
  });
}

async function claim(database: Database): Promise<Claim> {
  const taken = await tryClaim(database);
  assert.ok(taken !== undefined);
  return taken;
}

const fenceOf = ({ buildId, attempt }: Claim) => ({ buildId, attempt, owner: 'executor-1' });

async function say(database: Database, held: Claim, message: string): Promise<void> {
  const writer = openLogWriter(database, fenceOf(held), { mask: [] });
  writer.write({ time: 1, level: 'info', component: 'builder', message });
  await writer.close();
}
