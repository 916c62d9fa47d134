import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { migrate } from '../../src/store/migrate.ts';
import { MIGRATIONS } from '../../src/store/migrations/all-migrations.ts';
import type { Migration } from '../../src/store/migrations/migration-context.ts';
import { openDatabase } from '../../src/store/open-database.ts';
import { checkFile, validateSchema } from '../../src/store/shape/validate-schema.ts';
import { startDatabaseProcess } from '../fixtures/database-process.ts';
import { forEachDatabase, silentLog } from '../fixtures/databases.ts';
import { signal } from '../fixtures/queue.ts';

forEachDatabase((name, openTestDatabase) => {
  test(`the migrations make the same tables on ${name} as the schema says`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    assert.deepEqual(await validateSchema(database), []);
    assert.deepEqual(await checkFile(database), []);
    assert.deepEqual(await migrate(database.k, { dialect: name }), []);
  });

  test(`validateSchema() on ${name} names each thing that differs`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const { k } = database;
    await sql`drop table webhooks`.execute(k);
    await sql`drop index builds_slot`.execute(k);
    await sql`drop index builds_queued`.execute(k);
    await sql`create index builds_queued on builds (tenant_id, priority, id)`.execute(k);
    await sql`alter table tenants drop column event_seq`.execute(k);
    await sql`alter table tenants add column colour text`.execute(k);
    await sql`create table mine (id text)`.execute(k);
    await sql`create index mine_too on builds (name)`.execute(k);
    assert.deepEqual(
      [...(await validateSchema(database))].toSorted(),
      [
        "index builds_queued is (tenant_id, priority, id), want (tenant_id, priority desc, id) where state = 'pending'",
        'index builds_slot is missing',
        'column tenants.event_seq is missing',
        'column tenants.colour is unknown',
        'table webhooks is missing',
      ].toSorted(),
    );
  });

  test(`H8: processes that start at once on an empty ${name} migrate it once`, async () => {
    await using opened = await openTestDatabase({ empty: true });
    const processes = Array.from({ length: 3 }, (_, n) =>
      startDatabaseProcess(opened.config, 'open', `p${n}`),
    );
    try {
      assert.deepEqual(await Promise.all(processes.map(({ ended }) => ended)), [0, 0, 0]);
    } finally {
      for (const each of processes) await each[Symbol.asyncDispose]();
    }
    const database = await opened.open();
    const rows = await database.k.selectFrom('meta').selectAll().execute();
    assert.deepEqual(
      rows.map(({ key }) => key),
      MIGRATIONS.map((migration) => `migration:${migration.name}`),
    );
    assert.deepEqual(await validateSchema(database), []);
  });

  test(`H9: a migration that fails on ${name} leaves nothing behind`, async () => {
    await using opened = await openTestDatabase();
    const { k } = opened.database;
    const broken: Migration = {
      name: '9999-broken',
      up: async (db) => {
        await sql`create table half (id text)`.execute(db);
        await sql`create table tenants (id text)`.execute(db);
      },
    };
    const migrations = [...MIGRATIONS, broken];
    await assert.rejects(migrate(k, { dialect: name, migrations }), { code: 'internal' });
    await assert.rejects(sql`select * from half`.execute(k));
    const fine: Migration = {
      ...broken,
      up: async (db) => void (await sql`create table half (id text)`.execute(db)),
    };
    assert.deepEqual(await migrate(k, { dialect: name, migrations: [...MIGRATIONS, fine] }), [
      '9999-broken',
    ]);
  });

  test(`H10: a ${name} that a newer builderd wrote is refused, with its name`, async () => {
    await using opened = await openTestDatabase();
    const { config, database } = opened;
    await database.k
      .insertInto('meta')
      .values({ key: 'migration:0042-from-the-future', value: '' })
      .execute();
    for (const wanted of [true, false]) {
      await assert.rejects(openDatabase(config, { signal, log: silentLog, migrate: wanted }), {
        code: 'database.schema',
        message: /a newer builderd wrote it \(0042-from-the-future\)/,
      });
    }
  });

  test(`openDatabase() on an empty ${name} refuses to go on when it may not migrate`, async () => {
    await using opened = await openTestDatabase({ empty: true });
    const options = { signal, log: silentLog, migrate: false };
    await assert.rejects(openDatabase(opened.config, options), { code: 'database.schema' });
  });
});
