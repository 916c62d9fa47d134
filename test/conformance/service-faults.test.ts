import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import type { KyselyPlugin } from 'kysely';
import { LOG_LIMITS } from '../../src/builds/logs/log-limits.ts';
import { openLogWriter } from '../../src/builds/logs/log-writer.ts';
import { BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import { insertArtifacts } from '../../src/store/artifacts/artifact-rows.ts';
import type { Database } from '../../src/store/database.ts';
import { parseMasterKeys } from '../../src/store/secrets/master-keys.ts';
import { createSealedSecrets } from '../../src/store/secrets/sealed-secrets.ts';
import { CALLER, call, IMAGE, serviceOn } from '../fixtures/build-service.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

forEachDatabase((_name, openTestDatabase) => {
  test('a log loses and doubles nothing when the database is away, or breaks off after a commit', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    const fence = await harness.hold(id);
    const faults = ['before', 'before', 'after', 'none', 'after', 'none'] as const;
    const writer = openLogWriter(failing(opened.database, faults), fence, {
      mask: [],
      flushBytes: 200,
      flushMs: 1,
    });
    const messages = Array.from({ length: 10 }, (_, n) => `line ${n}`);
    for (const message of messages)
      writer.write({ time: 1, level: 'info', component: 'c', message });
    await writer.close({ signal: AbortSignal.timeout(60_000) });
    const { entries } = await service.readLog(tenant, id, { ...call(), from: 0, limit: 100 });
    assert.deepEqual(
      entries.map(({ message }) => message),
      messages,
    );
  });

  test('a log whose database stays away drops with a marker, and gives up when it is closed', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    const fence = await harness.hold(id);
    const away = Array.from({ length: 1000 }, () => 'before' as const);
    const limits = { ...LOG_LIMITS, queueBytes: 1000 };
    const writer = openLogWriter(failing(opened.database, away), fence, { mask: [], limits });
    for (let n = 0; n < 1000; n += 1) {
      writer.write({ time: 1, level: 'info', component: 'c', message: `line ${n}` });
    }
    const gone = AbortSignal.timeout(300);
    await assert.rejects(writer.close({ signal: gone }), (reason) =>
      isBuilderdError(reason, 'database.unavailable'),
    );

    const late = openLogWriter(failing(opened.database, ['before', 'before']), fence, {
      mask: [],
      limits,
    });
    for (let n = 0; n < 1000; n += 1) {
      late.write({ time: 1, level: 'info', component: 'c', message: `line ${n}` });
    }
    await late.close({ signal: AbortSignal.timeout(60_000) });
    const { entries } = await service.readLog(tenant, id, { ...call(), from: 0, limit: 100 });
    const last = entries.at(-1);
    assert.equal(last?.metadata?.['reason'], 'backlog');
    const kept = entries.slice(0, -1);
    assert.deepEqual(
      kept.map(({ message }) => message),
      kept.map((_, n) => `line ${n}`),
    );
    const rest = Array.from({ length: 1000 - kept.length }, (_, n) => `line ${n + kept.length}\n`);
    assert.equal(last?.metadata?.['droppedBytes'], String(rest.join('').length));
  });

  test('a create whose answer was lost gives the same build when it is repeated with its key', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const tenant = await harness.tenant('acme');
    await using broken = serviceOn(failing(opened.database, ['before', 'after']), {
      secrets: harness.secrets,
    });
    const options = { ...call(), idempotencyKey: 'key' };
    for (const kept of [0, 1]) {
      await assert.rejects(broken.service.create(CALLER, tenant, IMAGE, options), (reason) =>
        isBuilderdError(reason, 'database.unavailable'),
      );
      assert.equal((await harness.service.list(tenant, { limit: 1 }, call())).total, kept);
    }
    const { build, created } = await broken.service.create(CALLER, tenant, IMAGE, options);
    assert.equal(created, false);
    assert.deepEqual((await harness.service.get(tenant, build.id, call())).id, build.id);
  });

  test('followers outlast a database that is away', async () => {
    await using opened = await openTestDatabase();
    let away = false;
    const plugin: KyselyPlugin = {
      transformQuery({ node }) {
        if (away) throw new BuilderdError('database.unavailable', 'Cannot reach it: test');
        return node;
      },
      transformResult: async ({ result }) => await Promise.resolve(result),
    };
    const { database } = opened;
    await using harness = serviceOn({ ...database, k: database.k.withPlugin(plugin) });
    const tenant = await harness.tenant('acme');
    const { id } = (await harness.service.create(CALLER, tenant, IMAGE, call())).build;
    const fence = await harness.hold(id);
    const followed = harness.service.followLog(tenant, id, { ...call(), from: 0 });
    const iterator = followed[Symbol.asyncIterator]();
    const first = iterator.next();
    const writer = openLogWriter(database, fence, { mask: [], flushMs: 1 });
    const say = (message: string): void =>
      writer.write({ time: 1, level: 'info', component: 'c', message });
    say('before');
    assert.equal((await first).value?.[0]?.message, 'before');
    away = true;
    const second = iterator.next();
    say('meanwhile');
    await writer.close();
    database.ring('logs');
    await new Promise((resolve) => setTimeout(resolve, 50));
    away = false;
    assert.equal((await second).value?.[0]?.message, 'meanwhile');
    await iterator.return?.();
  });

  test('a follower of a service that closes is told so, and not that the log ends', async () => {
    await using opened = await openTestDatabase();
    const harness = serviceOn(opened.database);
    const tenant = await harness.tenant('acme');
    const { id } = (await harness.service.create(CALLER, tenant, IMAGE, call())).build;
    const followed = harness.service.followLog(tenant, id, { ...call(), from: 0 });
    const next = followed[Symbol.asyncIterator]().next();
    const told = assert.rejects(next, (reason) => isBuilderdError(reason, 'service.unavailable'));
    await new Promise((resolve) => setTimeout(resolve, 50));
    await harness.service[Symbol.asyncDispose]();
    await told;
  });

  test('an idempotency key of before a rotation of the master key still stands for its build', async () => {
    await using opened = await openTestDatabase();
    const [older, newer] = [randomBytes(32), randomBytes(32)].map((key) => key.toString('base64'));
    const secrets = (text: string) => createSealedSecrets(parseMasterKeys(text, 'test'));
    await using before = serviceOn(opened.database, { secrets: secrets(`${older}`) });
    await using after = serviceOn(opened.database, { secrets: secrets(`${newer}\n${older}`) });
    const tenant = await before.tenant('acme');
    const options = { ...call(), idempotencyKey: 'key' };
    const first = await before.service.create(CALLER, tenant, IMAGE, options);
    const again = await after.service.create(CALLER, tenant, IMAGE, options);
    assert.deepEqual([again.created, again.build.id], [false, first.build.id]);
    await after.service.delete(CALLER, tenant, first.build.id, { ...call(), force: false });
    await assert.rejects(after.service.create(CALLER, tenant, IMAGE, options), (reason) =>
      isBuilderdError(reason, 'api.conflict'),
    );
  });

  test('what tenants download is counted in their usage', async () => {
    await using opened = await openTestDatabase();
    const harness = serviceOn(opened.database);
    const { service, database, blobs } = harness;
    const tenant = await harness.tenant('acme');
    const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
    const blob = blobs.put(tenant.id, Buffer.alloc(1000, 7));
    const artifact = { name: 'a', format: 'tar', mediaType: 'application/x-tar', blob };
    await database.transaction(
      (tx) => insertArtifacts(tx, { tenantId: tenant.id, buildId: id, artifacts: [artifact] }),
      call(),
    );
    for (const range of [
      { start: 0, end: 999 },
      { start: 10, end: 19 },
    ]) {
      const { body } = await service.openArtifact(tenant, id, 'a', { ...call(), range });
      assert.equal((await buffer(body)).length, range.end - range.start + 1);
    }
    await service[Symbol.asyncDispose]();
    const usage = await database.k.selectFrom('usage_daily').select('served_bytes').execute();
    assert.deepEqual(usage, [{ served_bytes: 1010 }]);
  });
});

/** The same database, whose transactions fail as told, one after the other; later ones work. */
function failing(database: Database, faults: readonly ('before' | 'after' | 'none')[]): Database {
  const left = [...faults];
  const away = (): BuilderdError =>
    new BuilderdError('database.unavailable', 'Cannot reach it: test');
  return {
    ...database,
    async transaction(body, options) {
      const fault = left.shift();
      if (fault === 'before') throw away();
      const result = await database.transaction(body, options);
      if (fault === 'after') throw away();
      return result;
    },
  };
}
