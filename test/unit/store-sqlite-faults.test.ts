import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import type { Database } from '../../src/store/database.ts';
import { databaseFile } from '../../src/store/data-directory.ts';
import { openDatabase } from '../../src/store/open-database.ts';
import { silentLog } from '../fixtures/databases.ts';

const signal = AbortSignal.timeout(60_000);

async function withDatabase(
  work: (database: Database, file: string) => Promise<void>,
): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'bd-sqlite-'));
  try {
    const directory = path.join(dir, 'data');
    await using database = await openDatabase(
      { type: 'sqlite', directory },
      { signal, log: silentLog },
    );
    await work(database, databaseFile(directory));
  } finally {
    await rm(dir, { recursive: true });
  }
}

function add(database: Database, key: string, bytes = 1): Promise<void> {
  return database.transaction(
    async (tx) => {
      await tx.k
        .insertInto('meta')
        .values({ key, value: 'x'.repeat(bytes) })
        .execute();
    },
    { signal },
  );
}

test('a full disk is a typed fault, undoes the transaction, and reading goes on', async () => {
  await withDatabase(async (database) => {
    await add(database, 'before');
    const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(database.k);
    const pages = Number(rows[0]?.page_count);
    await sql.raw(`pragma max_page_count = ${pages + 4}`).execute(database.k);
    await assert.rejects(add(database, 'big', 1_000_000), { code: 'storage.full' });
    const keys = await database.k
      .selectFrom('meta')
      .select('key')
      .where('key', 'in', ['before', 'big'])
      .execute();
    assert.deepEqual(keys, [{ key: 'before' }]);
    await sql.raw(`pragma max_page_count = ${pages + 4000}`).execute(database.k);
    await add(database, 'big', 1_000_000);
  });
});

test('a write waits for another process without stopping the event loop', async () => {
  await withDatabase(async (database, file) => {
    using other = new DatabaseSync(file);
    other.exec('begin immediate');
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 20);
    const writing = add(database, 'a');
    await sleep(600);
    clearInterval(timer);
    assert.ok(turns >= 3, `the event loop turned ${turns} times`);
    other.exec('commit');
    await writing;
    const rows = await database.k.selectFrom('meta').select('key').where('key', '=', 'a').execute();
    assert.equal(rows.length, 1);
  });
});

test('a wait for another process ends with the signal', async () => {
  await withDatabase(async (database, file) => {
    using other = new DatabaseSync(file);
    other.exec('begin immediate');
    const stop = new AbortController();
    const waiting = database.transaction(
      async (tx) => {
        await tx.k.insertInto('meta').values({ key: 'a', value: '' }).execute();
      },
      { signal: stop.signal },
    );
    // The second one waits for the first, which waits for the other process.
    const behind = database.transaction(async () => 1, { signal: stop.signal });
    const watched = [waiting, behind].map((each) =>
      assert.rejects(each, { code: 'build.cancelled' }),
    );
    await sleep(50);
    stop.abort();
    await Promise.all(watched);
    other.exec('rollback');
    await add(database, 'b');
  });
});
