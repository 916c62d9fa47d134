import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import type { Database } from '../../src/store/database.ts';
import { isUniqueViolation } from '../../src/store/kysely-database.ts';
import { readNow } from '../../src/store/read-now.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

const signal = AbortSignal.timeout(170_000);

async function keysOf(database: Database): Promise<readonly string[]> {
  const rows = await database.k
    .selectFrom('meta')
    .select('key')
    .where('key', 'not like', 'migration:%')
    .orderBy('key')
    .execute();
  return rows.map(({ key }) => key);
}

function addKey(db: Pick<Database, 'k'>, key: string): Promise<unknown> {
  return db.k.insertInto('meta').values({ key, value: '' }).execute();
}

/** Resolves at the next ring, without help from polling. */
function nextRing(database: Database, topic: 'queue' | 'logs'): Promise<void> & Disposable {
  const { promise, resolve } = Promise.withResolvers<void>();
  const listening = database.listen(topic, resolve, { pollMs: 100_000 });
  return Object.assign(promise, { [Symbol.dispose]: () => listening[Symbol.dispose]() });
}

forEachDatabase((name, openTestDatabase) => {
  test(`a transaction on ${name} is written as a whole or not at all`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const fault = new Error('on purpose');
    const failing = database.transaction(
      async (tx) => {
        await addKey(tx, 'a');
        throw fault;
      },
      { signal },
    );
    await assert.rejects(failing, (reason) => reason === fault);
    assert.deepEqual(await keysOf(database), []);
    const result = await database.transaction(
      async (tx) => {
        await addKey(tx, 'a');
        await addKey(tx, 'b');
        return 7;
      },
      { signal },
    );
    assert.equal(result, 7);
    assert.deepEqual(await keysOf(database), ['a', 'b']);
  });

  test(`transactions that are begun at once on ${name} do not mix`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await database.k.insertInto('meta').values({ key: 'n', value: '0' }).execute();
    const add = (): Promise<void> =>
      database.transaction(
        async (tx) => {
          const query = tx.k.selectFrom('meta').select('value').where('key', '=', 'n');
          const locked = tx.dialect === 'postgres' ? query.forUpdate() : query;
          const { value } = await locked.executeTakeFirstOrThrow();
          await tx.k
            .updateTable('meta')
            .set({ value: `${Number(value) + 1}` })
            .where('key', '=', 'n')
            .execute();
        },
        { signal },
      );
    await Promise.all(Array.from({ length: 40 }, add));
    const row = await database.k
      .selectFrom('meta')
      .select('value')
      .where('key', '=', 'n')
      .executeTakeFirstOrThrow();
    assert.equal(row.value, '40');
  });

  test(`a body on ${name} that uses the database instead of its transaction is refused, not stuck`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const inside = [
      (): Promise<unknown> => keysOf(database),
      () => addKey(database, 'x'),
      () => database.transaction(async () => 1, { signal }),
      () => database.ping({ signal }),
    ];
    for (const work of inside) {
      await assert.rejects(database.transaction(work, { signal }), {
        code: 'internal',
        message: /inside a transaction/,
      });
    }
    await addKey(database, 'after');
    assert.deepEqual(await keysOf(database), ['after']);
  });

  test(`a transaction on ${name} stops when its signal does, and leaves nothing`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const stop = new AbortController();
    const stopped = database.transaction(
      async (tx) => {
        await addKey(tx, 'a');
        stop.abort(new BuilderdError('build.cancelled', 'Cannot go on: the test says so'));
        await addKey(tx, 'b');
      },
      { signal: stop.signal },
    );
    await assert.rejects(stopped, { code: 'build.cancelled' });
    const late = database.transaction((tx) => addKey(tx, 'c'), { signal: stop.signal });
    await assert.rejects(late, { code: 'build.cancelled' });
    assert.deepEqual(await keysOf(database), []);
    await database.transaction((tx) => addKey(tx, 'd'), { signal });
    assert.deepEqual(await keysOf(database), ['d']);
  });

  test(`isUniqueViolation() on ${name} knows a row that was there before`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await addKey(database, 'a');
    await assert.rejects(addKey(database, 'a'), (reason) => isUniqueViolation(reason));
    const inside = database.transaction((tx) => addKey(tx, 'a'), { signal });
    await assert.rejects(inside, (reason) => isUniqueViolation(reason));
    await assert.rejects(
      sql`select * from nothing`.execute(database.k),
      (reason) => !isUniqueViolation(reason),
    );
  });

  test(`values come back from ${name} as they went in`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const text = 'Grüße 🚀 \u0001 \' " \\ % _';
    const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
    await database.k
      .insertInto('builds')
      .values(await buildValues(database, text, Number.MAX_SAFE_INTEGER))
      .execute();
    await database.k.insertInto('build_secrets').values({ build_id: 'b', sealed: bytes }).execute();
    const build = await database.k.selectFrom('builds').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual(
      [
        build.name,
        build.memory_bytes,
        build.disk_bytes,
        build.owner,
        build.attempt,
        build.current_step,
      ],
      [text, Number.MAX_SAFE_INTEGER, -1, null, 0, ''],
    );
    const secret = await database.k
      .selectFrom('build_secrets')
      .selectAll()
      .executeTakeFirstOrThrow();
    assert.deepEqual(Uint8Array.from(secret.sealed), bytes);
    const { rows } = await sql<{ sum: unknown; count: unknown }>`
      select sum(attempt) as sum, count(*) as count from builds`.execute(database.k);
    assert.deepEqual(rows, [{ sum: 0, count: 1 }]);
    await assert.rejects(sql`select ${sql.raw('9007199254740993')} as n`.execute(database.k));
    assert.ok(Math.abs((await readNow(database)) - Date.now()) < 60_000);
  });

  test(`texts on ${name} are sorted by their bytes`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const keys = ['a-b', 'ab', 'a_b', 'B', 'a', 'é', 'Z', '~', 'a b'];
    for (const key of keys) await addKey(database, key);
    const byBytes = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    assert.deepEqual(await keysOf(database), byBytes);
  });

  test(`a ring on ${name} is heard in this process and in others, after the commit`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const other = await opened.open();
    // The connections that hear rings take a moment, and ring once themselves.
    using warm = nextRing(database, 'logs');
    using alsoWarm = nextRing(other, 'logs');
    void [warm, alsoWarm];
    await sleep(500);
    using here = nextRing(database, 'queue');
    using there = nextRing(other, 'queue');
    let heardEarly = false;
    await database.transaction(
      async (tx) => {
        await addKey(tx, 'a');
        database.ring('queue');
        heardEarly = await Promise.race([here.then(() => true), sleep(50, false)]);
      },
      { signal },
    );
    assert.equal(heardEarly, false);
    await Promise.all([here, there]);
    assert.deepEqual(await keysOf(other), ['a']);
  });

  test(`a ring in a transaction on ${name} that fails is not heard`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    let calls = 0;
    using listening = database.listen('events', () => (calls += 1), { pollMs: 100_000 });
    await sleep(300);
    calls = 0;
    const failing = database.transaction(
      async () => {
        database.ring('events');
        throw new Error('on purpose');
      },
      { signal },
    );
    await assert.rejects(failing, /on purpose/);
    await sleep(300);
    assert.equal(calls, 0);
    assert.ok(listening);
  });

  test(`a listener on ${name} that was made inside a transaction may use the database`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    const listening = await database.transaction(
      async (tx) => {
        await addKey(tx, 'a');
        return database.listen('queue', () => void keysOf(database).then(resolve, reject), {
          pollMs: 100_000,
        });
      },
      { signal },
    );
    using owned = listening;
    database.ring('queue');
    assert.deepEqual(await promise, ['a']);
    assert.ok(owned);
  });

  test(`a closed ${name} answers with a fault, and closing twice is no fault`, async () => {
    await using opened = await openTestDatabase();
    const other = await opened.open();
    await other[Symbol.asyncDispose]();
    await assert.rejects(keysOf(other));
    await assert.rejects(other.transaction((tx) => addKey(tx, 'a'), { signal }));
    await other[Symbol.asyncDispose]();
  });

  test(`ping() on ${name} gives up with its signal`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await database.ping({ signal: AbortSignal.timeout(20_000) });
    const late = database.ping({ signal: AbortSignal.abort() });
    await assert.rejects(late, (reason) => isBuilderdError(reason, 'database.unavailable'));
  });
});

async function buildValues(database: Database, text: string, memory: number) {
  const { now } = database;
  return {
    ...{ id: 'b', tenant_id: 't', state: 'failed', priority: 0, name: text, labels: '{}' },
    ...{ request: '{}', wire_config: null, trace_parent: null, created_by: '', created_at: now },
    ...{ started_at: null, finished_at: null, not_before: 0, timeout_ms: 1, deadline_at: null },
    ...{ owner: null, host: null, lease_until: null, id_slot: null, cancel_requested_at: null },
    ...{ memory_bytes: memory, disk_bytes: -1, error_code: null, error_message: null },
    ...{ source_reference: null, source_digest: null, image: null, metrics: null },
    ...{ isolation: null, deleted_at: null, updated_at: now },
  };
}
