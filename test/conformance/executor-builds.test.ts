import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { parseDigest, sha256 } from '../../src/core/digest.ts';
import type { BuildId } from '../../src/core/ids.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { type ExecutorService, openExecutorService } from '../fixtures/executor-service.ts';
import { interruptibleDatabase } from '../fixtures/failing-ports.ts';
import { Gate, gatedStore } from '../fixtures/gates.ts';

async function artifactText(service: ExecutorService, id: BuildId, name: string): Promise<string> {
  const { tenantId } = await service.build(id);
  const row = await service.database.k
    .selectFrom('build_artifacts')
    .select('digest')
    .where('build_id', '=', id)
    .where('name', '=', name)
    .executeTakeFirstOrThrow();
  const blob = await requireBlob(service.database, tenantId, parseDigest(row.digest));
  const signal = AbortSignal.timeout(10_000);
  return text(await service.artifacts.open(tenantId, blob, { signal }));
}

forEachDatabase((_name, openTestDatabase) => {
  suite('executor', () => {
    test('a build passes through every state and leaves artifacts, metadata and its log', async () => {
      await using service = await openExecutorService(openTestDatabase);
      const tenant = await service.tenant('acme');
      await using running = service.start();
      assert.equal(running.executor.status().draining, false);
      const id = await service.submit(tenant, { target: { formats: ['ext4', 'tar'] } });
      const build = await service.until(id);
      assert.equal(build.state, 'completed', build.errorMessage ?? '');
      const steps = await service.database.k
        .selectFrom('steps')
        .select(['state', 'outcome'])
        .where('build_id', '=', id)
        .orderBy('seq')
        .execute();
      assert.deepEqual(
        steps.map(({ state, outcome }) => `${state} ${outcome}`),
        ['pulling done', 'extracting done', 'building done', 'optimizing done'],
      );
      const tar = await artifactText(service, id, 'rootfs.tar');
      assert.ok(tar.includes('hello, world\n'));
      const metadata: unknown = JSON.parse(await artifactText(service, id, 'metadata.json'));
      assert.ok(JSON.stringify(metadata).includes(sha256(Buffer.from(tar, 'utf8'))));
      const log = await artifactText(service, id, 'build.log');
      assert.match(log, /Pulling example\.test\/app:1/);
      assert.equal(build.sourceReference, 'example.test/app:1');
      assert.equal(build.progress, 100);
      await running.idle();
      assert.deepEqual(await service.broken(), []);
    });

    test('two executors share the work: each build is done once, and no tenant passes its limit', async () => {
      await using service = await openExecutorService(openTestDatabase);
      const tenants = [
        await service.tenant('one', { maxConcurrentBuilds: 1 }),
        await service.tenant('two', { maxConcurrentBuilds: 2 }),
      ];
      await using first = service.start({ host: 'first' });
      await using second = service.start({ host: 'second' });
      const submitted = Array.from({ length: 6 }, () =>
        tenants.map((tenant) => service.submit(tenant)),
      );
      const ids = await Promise.all(submitted.flat());
      for (const id of ids) {
        const build = await service.until(id);
        assert.equal(build.state, 'completed', build.errorMessage ?? '');
      }
      await first.idle();
      await second.idle();
      const hosts = await service.database.k.selectFrom('attempts').select('host').execute();
      assert.equal(hosts.length, ids.length, 'each was tried once');
      assert.deepEqual(new Set(hosts.map(({ host }) => host)), new Set(['first', 'second']));
      assert.deepEqual(await service.broken(), []);
    });

    test('a database that is away while a build ends is waited for', async () => {
      await using service = await openExecutorService(openTestDatabase);
      const gate = new Gate();
      const { database, setDown } = interruptibleDatabase(service.database);
      await using running = service.start({
        database,
        artifacts: gatedStore(service.artifacts, gate),
      });
      const id = await service.submit(await service.tenant('acme'));
      await gate.reached;
      setDown(true);
      gate.open();
      // Long enough for every loop of the executor to hear of it.
      await sleep(1500);
      assert.equal((await service.build(id)).state, 'optimizing');
      setDown(false);
      const build = await service.until(id);
      assert.deepEqual([build.state, build.attempt], ['completed', 1], build.errorMessage ?? '');
      await running.idle();
      assert.deepEqual(await service.broken(), []);
    });
  });
});
