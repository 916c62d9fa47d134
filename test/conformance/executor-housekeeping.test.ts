import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forgetOld, KEEP, purgeDeleted } from '../../src/builds/executor/housekeeping.ts';
import { LogMover } from '../../src/builds/executor/store-log.ts';
import { LogReader } from '../../src/builds/logs/log-reader.ts';
import { insertIdempotencyKey } from '../../src/store/builds/idempotency-keys.ts';
import { deleteBuild } from '../../src/store/builds/delete-build.ts';
import { newTokenText } from '../../src/store/tokens/token-record.ts';
import { insertToken } from '../../src/store/tokens/token-rows.ts';
import { forEachDatabase, silentLog } from '../fixtures/databases.ts';
import { openExecutorService, QUICK } from '../fixtures/executor-service.ts';

const DAY_MS = 86_400_000;
const soon = (): { readonly signal: AbortSignal } => ({ signal: AbortSignal.timeout(30_000) });

forEachDatabase((_name, openTestDatabase) => {
  test('builds beyond the retention of their tenant go, with the bytes that nobody else has', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database, artifacts, images } = service;
    const tenant = await service.tenant('acme', { retentionDays: 10 });
    await using running = service.start();
    // The same image: one ext4 for both.
    const [old, fresh] = [await service.submit(tenant), await service.submit(tenant)];
    await service.until(old);
    await service.until(fresh);
    await running.idle();
    const before = (await service.tenant('acme')).storageBytes;
    await database.k
      .updateTable('builds')
      .set((eb) => ({ finished_at: eb('finished_at', '-', 11 * DAY_MS) }))
      .where('id', '=', old)
      .execute();
    // Which builds are old enough is first told by their ids.
    const oldId = old.replace(/^........-..../, '01900000-0000');
    for (const table of ['attempts', 'steps', 'build_artifacts', 'log_segments'] as const) {
      await database.k
        .updateTable(table)
        .set({ build_id: oldId })
        .where('build_id', '=', old)
        .execute();
    }
    await database.k.updateTable('builds').set({ id: oldId }).where('id', '=', old).execute();

    const deps = { database, artifacts, images, log: silentLog };
    await forgetOld(deps, { ...KEEP, unnamedMs: 0 }, soon());
    await purgeDeleted(deps, soon());
    await forgetOld(deps, { ...KEEP, unnamedMs: 0 }, soon());
    const left = await database.k.selectFrom('builds').select('id').execute();
    assert.deepEqual(left, [{ id: fresh }]);
    for (const table of ['attempts', 'steps', 'build_artifacts'] as const) {
      const rows = await database.k.selectFrom(table).select('build_id').execute();
      assert.ok(rows.length > 0 && rows.every(({ build_id }) => build_id === fresh), table);
    }
    const after = (await service.tenant('acme')).storageBytes;
    assert.ok(after < before, 'its metadata and log are gone');
    assert.deepEqual(await service.broken(), []);
    const blobs = await database.k.selectFrom('blobs').select('digest').execute();
    let stored = 0;
    for await (const file of artifacts.list(soon())) stored += file.kind === 'blob' ? 1 : 0;
    assert.equal(stored, blobs.length, 'nothing unnamed is stored');
  });

  test('a deleted build is purged once, and only when no executor works on it', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database } = service;
    const tenant = await service.tenant('acme');
    const waiting = await service.submit(tenant);
    const deps = { database, log: silentLog };
    await database.transaction(
      (tx) => deleteBuild(tx, tenant.id, waiting, { force: false }),
      soon(),
    );
    assert.equal(await purgeDeleted(deps, soon()), 1);
    assert.equal(await purgeDeleted(deps, soon()), 0);
    const running = await service.submit(tenant);
    await database.k
      .updateTable('builds')
      .set({ state: 'building', owner: 'somebody', deleted_at: 1 })
      .where('id', '=', running)
      .execute();
    assert.equal(await purgeDeleted(deps, soon()), 0);
  });

  test('idempotency keys and tokens that ended are kept for their time and then forgotten', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database, artifacts, images } = service;
    const tenant = await service.tenant('acme');
    const buildId = await service.submit(tenant);
    for (const key of ['old', 'new']) {
      const value = { buildId, requestHash: 'hash' };
      await database.transaction((tx) => insertIdempotencyKey(tx, tenant.id, key, value), soon());
    }
    await database.k
      .updateTable('idempotency_keys')
      .set((eb) => ({ created_at: eb('created_at', '-', KEEP.idempotencyKeyMs + 1000) }))
      .where('key', '=', 'old')
      .execute();
    for (const [name, ageMs] of [
      ['old', KEEP.tokenMs + 1000],
      ['new', 1000],
    ] as const) {
      const token = { text: newTokenText(), role: 'reader', name, createdBy: 'local' } as const;
      const { id } = await database.transaction(
        (tx) => insertToken(tx, { ...token, tenantId: tenant.id }),
        soon(),
      );
      await database.k
        .updateTable('tokens')
        .set((eb) => ({ revoked_at: eb('created_at', '-', ageMs) }))
        .where('id', '=', id)
        .execute();
    }
    await forgetOld({ database, artifacts, images, log: silentLog }, KEEP, soon());
    const keys = await database.k.selectFrom('idempotency_keys').select('key').execute();
    assert.deepEqual(keys, [{ key: 'new' }]);
    const tokens = await database.k.selectFrom('tokens').select('name').execute();
    assert.deepEqual(tokens, [{ name: 'new' }]);
  });

  test('the log of a build that failed moves to its artifacts, and is read from there', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database, artifacts } = service;
    const tenant = await service.tenant('acme');
    const full = await service.tenant('full');
    await using running = service.start({ times: { ...QUICK, reconcileMs: 600_000 } });
    const reference = 'example.test/none:1';
    const ids = [
      await service.submit(tenant, { reference }),
      await service.submit(full, { reference }),
    ];
    for (const id of ids) await service.until(id);
    await running.idle();
    await database.k
      .updateTable('tenants')
      .set({ storage_bytes: full.quotas.maxStorageBytes })
      .where('id', '=', full.id)
      .execute();
    const mover = new LogMover({ database, artifacts, log: silentLog }, () => true);
    assert.equal(await mover.run(soon()), 1);
    assert.equal(await mover.run(soon()), 0);
    await database.k
      .updateTable('tenants')
      .set({ storage_bytes: 0 })
      .where('id', '=', full.id)
      .execute();
    assert.equal(await mover.run(soon()), 1);
    const [id] = ids;
    assert.ok(id !== undefined);
    const reader = new LogReader(database, artifacts);
    const entries = await reader.read(tenant.id, id, { from: 0, limit: 100 }, soon());
    assert.ok(entries.some(({ message }) => message.includes('source.not_found')));
    const segments = await database.k.selectFrom('log_segments').select('build_id').execute();
    assert.deepEqual(segments, []);
    assert.deepEqual(await service.broken(), []);
  });
});
