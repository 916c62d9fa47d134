import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import type { DatabaseConfig } from '../../src/store/database.ts';
import { databaseFile } from '../../src/store/data-directory.ts';
import { type DatabaseWork, startDatabaseProcess } from '../fixtures/database-process.ts';
import { forEachDatabase, type TestDatabase } from '../fixtures/databases.ts';
import { addBuilds, addTenant } from '../fixtures/queue.ts';
import { DatabaseSync } from 'node:sqlite';

/** What several processes print that do the same at once; all must end well. */
async function runAll(
  config: DatabaseConfig,
  work: DatabaseWork,
  count: number,
): Promise<readonly (readonly string[])[]> {
  const processes = Array.from({ length: count }, (_, n) =>
    startDatabaseProcess(config, work, `p${n}`),
  );
  try {
    const codes = await Promise.all(processes.map(({ ended }) => ended));
    assert.deepEqual(
      codes,
      Array.from({ length: count }, () => 0),
    );
    return processes.map(({ lines }) => lines);
  } finally {
    for (const each of processes) await each[Symbol.asyncDispose]();
  }
}

forEachDatabase((name, openTestDatabase) => {
  test(`processes that claim at once on ${name} claim each build once and keep the caps`, async () => {
    await using opened = await openTestDatabase();
    const { database, config } = opened;
    const capped = await addTenant(database, 'capped', { maxConcurrentBuilds: 7 });
    const free = await addTenant(database, 'free', { maxConcurrentBuilds: 1000 });
    await addBuilds(database, capped, 40);
    const ids = await addBuilds(database, free, 60);
    const claimed = await runAll(config, 'claim', 3);
    const all = claimed.flat();
    assert.equal(new Set(all).size, all.length);
    assert.equal(all.length, 67);
    assert.ok(ids.every((id) => all.includes(id)));
    const slots = await database.k
      .selectFrom('builds')
      .select(['host', 'id_slot'])
      .where('owner', 'is not', null)
      .execute();
    assert.equal(new Set(slots.map((row) => `${row.host} ${row.id_slot}`)).size, 67);
    const seqs = await database.k
      .selectFrom('events')
      .select('seq')
      .where('tenant_id', '=', free)
      .orderBy('seq')
      .execute();
    assert.deepEqual(
      seqs.map(({ seq }) => seq),
      ids.map((_, n) => n + 1),
    );
  });

  test(`read-then-write transactions of several processes on ${name} lose nothing`, async () => {
    await using opened = await openTestDatabase();
    const { database, config } = opened;
    await database.k.insertInto('meta').values({ key: 'count', value: '0' }).execute();
    await runAll(config, 'count', 3);
    const row = await database.k
      .selectFrom('meta')
      .select('value')
      .where('key', '=', 'count')
      .executeTakeFirstOrThrow();
    assert.equal(row.value, '300');
  });

  test(`a process on ${name} that is killed while it writes leaves whole transactions`, async () => {
    await using opened = await openTestDatabase();
    const { database, config } = opened;
    for (let round = 0; round < 3; round += 1) {
      await using writer = startDatabaseProcess(config, 'write', `r${round}`);
      await writer.printed(20 + round * 7);
      writer.child.kill('SIGKILL');
      assert.equal(await writer.ended, 'SIGKILL');
      const rows = await database.k
        .selectFrom('meta')
        .select('key')
        .where('key', 'like', `r${round}:%`)
        .execute();
      const keys = new Set(rows.map(({ key }) => key));
      assert.equal(keys.size % 2, 0, 'half a transaction is there');
      for (const n of writer.lines) {
        assert.ok(keys.has(`r${round}:${n}:a`) && keys.has(`r${round}:${n}:b`), `${n} is lost`);
      }
    }
    await checkIntegrity(opened);
    await using again = await opened.open();
    const { rows } = await sql`select 1`.execute(again.k);
    assert.equal(rows.length, 1);
  });
});

async function checkIntegrity({ database, config }: TestDatabase): Promise<void> {
  if (config.type === 'sqlite') {
    using file = new DatabaseSync(databaseFile(config.directory), { readOnly: true });
    const rows = file.prepare('pragma integrity_check').all();
    assert.deepEqual(
      rows.map((row) => ({ ...row })),
      [{ integrity_check: 'ok' }],
    );
    return;
  }
  const { rows } = await sql<{ count: number }>`select count(*) as count from meta`.execute(
    database.k,
  );
  assert.ok(Number(rows[0]?.count) > 0);
}
