import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kysely, sql } from 'kysely';
import pg from 'pg';
import {
  postgresLack,
  type PrivatePostgres,
  startPrivatePostgres,
} from '../../contrib/dev/private-postgres.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import type { Database } from '../../src/store/database.ts';
import { isOutcomeUnknown } from '../../src/store/kysely-database.ts';
import { openDatabase } from '../../src/store/open-database.ts';
import { postgresDialect } from '../../src/store/postgres-driver.ts';
import type { Schema } from '../../src/store/schema.ts';
import { TransactionScope } from '../../src/store/transaction-scope.ts';
import { silentLog } from '../fixtures/databases.ts';
import { startTcpProxy } from '../fixtures/tcp-proxy.ts';

const signal = AbortSignal.timeout(170_000);
const lack = postgresLack();

let started: Promise<PrivatePostgres> | undefined;

async function freshUrl(): Promise<{ readonly server: PrivatePostgres; readonly url: string }> {
  started ??= startPrivatePostgres();
  const server = await started;
  return { server, url: await server.createDatabase() };
}

function open(url: string): Promise<Database> {
  return openDatabase({ type: 'postgres', url }, { signal, log: silentLog });
}

async function add(database: Database, key: string): Promise<void> {
  await database.transaction(
    async (tx) => {
      await tx.k.insertInto('meta').values({ key, value: '' }).execute();
    },
    { signal },
  );
}

const isAway = (reason: unknown): boolean => isBuilderdError(reason, 'database.unavailable');

/** Tries until it works; the service's loops do no other. */
async function eventually(work: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await work();
      return;
    } catch (reason) {
      if (tries > 100 || !isAway(reason)) throw reason;
    }
    await sleep(100);
  }
}

suite('postgres', lack === undefined ? {} : { skip: lack }, () => {
  after(async () => {
    await (await started)?.[Symbol.asyncDispose]();
  });

  test('a pool outlives a crash of PostgreSQL, and listeners hear again', async () => {
    const { server, url } = await freshUrl();
    await using database = await open(url);
    let heard = Promise.withResolvers<void>();
    using listening = database.listen('queue', () => heard.resolve(), { pollMs: 1_000_000 });
    await Promise.all(Array.from({ length: 5 }, (_, n) => add(database, `before-${n}`)));
    const broken = database.transaction(
      async (tx) => {
        await tx.k.insertInto('meta').values({ key: 'half', value: '' }).execute();
        await server.stop('immediate');
        await tx.k.insertInto('meta').values({ key: 'other half', value: '' }).execute();
      },
      { signal },
    );
    await assert.rejects(broken, isAway);
    await assert.rejects(add(database, 'while it is away'), isAway);
    await assert.rejects(database.ping({ signal }), isAway);
    await server.start();
    await eventually(() => add(database, 'after'));
    const rows = await database.k.selectFrom('meta').select('key').execute();
    assert.deepEqual(
      rows.map(({ key }) => key).filter((key) => /half|away/.test(key)),
      [],
    );
    assert.equal(rows.length, 7);
    heard = Promise.withResolvers<void>();
    await using other = await open(url);
    const ringing = setInterval(() => other.ring('queue'), 100);
    await heard.promise;
    clearInterval(ringing);
    assert.ok(listening);
  });

  test('a connection that the administrator ends costs one typed fault, not the pool', async () => {
    const { url } = await freshUrl();
    await using database = await open(url);
    const ended = database.transaction(
      async (tx) => {
        await sql`select pg_terminate_backend(pg_backend_pid())`.execute(tx.k);
      },
      { signal },
    );
    await assert.rejects(ended, isAway);
    await add(database, 'after');
  });

  test('a connection that dies without a sign is given up and destroyed', async () => {
    const { server, url } = await freshUrl();
    await using proxy = await startTcpProxy(server.port);
    const through = new URL(url);
    through.port = String(proxy.port);
    through.searchParams.set('connect_timeout', '1');
    await using database = await open(through.href);
    await add(database, 'before');
    const control = new AbortController();
    const stuck = database.transaction(
      async (tx) => {
        proxy.stall();
        await tx.k.insertInto('meta').values({ key: 'lost', value: '' }).execute();
      },
      { signal: control.signal },
    );
    const watched = assert.rejects(stuck, (reason) => isBuilderdError(reason));
    await sleep(300);
    control.abort();
    await watched;
    await assert.rejects(add(database, 'no way through'), isAway);
    proxy.heal();
    await eventually(() => add(database, 'after'));
    const rows = await database.k
      .selectFrom('meta')
      .select('key')
      .where('key', '=', 'lost')
      .execute();
    assert.deepEqual(rows, []);
  });

  test('a query that nobody answers is given up in time, and its connection with it', async () => {
    const { server, url } = await freshUrl();
    await using proxy = await startTcpProxy(server.port);
    const through = new URL(url);
    through.port = String(proxy.port);
    await using pool = Object.assign(new pg.Pool({ connectionString: through.href, max: 1 }), {
      async [Symbol.asyncDispose]() {
        if (!pool.ended) await pool.end();
      },
    });
    const scope = new TransactionScope();
    const k = new Kysely<Schema>({
      dialect: postgresDialect({ pool, scope, queryTimeoutMs: 300 }),
    });
    await sql`select 1`.execute(k);
    assert.equal(pool.totalCount, 1);
    proxy.stall();
    await assert.rejects(sql`select 2`.execute(k), {
      code: 'database.unavailable',
      message: 'Cannot use the database: PostgreSQL did not answer for 0.3 s',
    });
    assert.equal(pool.totalCount, 0);
    proxy.heal();
    assert.deepEqual((await sql`select 3 as n`.execute(k)).rows, [{ n: 3 }]);
  });

  test('a commit whose answer is lost says that its outcome is unknown', async () => {
    const { server, url } = await freshUrl();
    await using proxy = await startTcpProxy(server.port);
    const through = new URL(url);
    through.port = String(proxy.port);
    await using database = await open(through.href);
    // The server itself ends the connection in the middle of the commit.
    await sql`create table doomed (id int)`.execute(database.k);
    await sql`create function die() returns trigger language plpgsql as
      'begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); return null; end'`.execute(
      database.k,
    );
    await sql`create constraint trigger die after insert on doomed
      deferrable initially deferred for each row execute function die()`.execute(database.k);
    const lost = database.transaction(
      async (tx) => {
        await sql`insert into doomed values (1)`.execute(tx.k);
      },
      { signal },
    );
    await assert.rejects(lost, (reason) => isOutcomeUnknown(reason) && isAway(reason));
    await add(database, 'after');
  });

  test('transactions that block each other are tried again until both are through', async () => {
    const { url } = await freshUrl();
    await using database = await open(url);
    for (const key of ['x', 'y']) await add(database, key);
    const bodies = { x: 0, y: 0 };
    const both = (first: 'x' | 'y', second: 'x' | 'y'): Promise<void> =>
      database.transaction(
        async (tx) => {
          bodies[first] += 1;
          for (const key of [first, second]) {
            await tx.k
              .updateTable('meta')
              .set({ value: sql`value || ${first}` })
              .where('key', '=', key)
              .execute();
            await sleep(100);
          }
        },
        { signal },
      );
    await Promise.all([both('x', 'y'), both('y', 'x')]);
    assert.ok(bodies.x + bodies.y >= 3, 'there was no deadlock');
    const rows = await database.k
      .selectFrom('meta')
      .select('value')
      .where('key', 'in', ['x', 'y'])
      .execute();
    for (const { value } of rows) assert.equal(value.length, 2);
  });

  test('a transaction that always fails to serialize is tried four times in all', async () => {
    const { url } = await freshUrl();
    await using database = await open(url);
    let bodies = 0;
    const hopeless = database.transaction(
      async (tx) => {
        bodies += 1;
        await sql`do 'begin raise exception using errcode = ''40001''; end'`.execute(tx.k);
      },
      { signal },
    );
    await assert.rejects(hopeless, isAway);
    assert.equal(bodies, 4);
  });

  test('a fault that a body swallows does not pass for a commit', async () => {
    const { url } = await freshUrl();
    await using database = await open(url);
    const swallowed = database.transaction(
      async (tx) => {
        await tx.k.insertInto('meta').values({ key: 'a', value: '' }).execute();
        await assert.rejects(sql`select 1 / 0`.execute(tx.k));
      },
      { signal },
    );
    await assert.rejects(swallowed, { code: 'internal', message: /had failed/ });
  });

  test('a server without a free connection is a typed fault, and soon again none', async () => {
    const { url } = await freshUrl();
    await using database = await open(`${url}?pool_max_conns=70&connect_timeout=3`);
    const crowd = Array.from({ length: 70 }, () =>
      sql`select pg_sleep(0.5)`.execute(database.k).then(() => 'served'),
    );
    const ends = await Promise.allSettled(crowd);
    const refused = ends.flatMap((end): unknown[] =>
      end.status === 'rejected' ? [end.reason] : [],
    );
    assert.ok(refused.length > 0 && refused.length < 70, `${refused.length} were refused`);
    assert.ok(refused.every(isAway));
    await eventually(() => add(database, 'after'));
  });

  test('openDatabase() refuses an encoding that cannot hold every text', async () => {
    const { server } = await freshUrl();
    await using admin = await open(await server.createDatabase());
    await sql`create database latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0`.execute(
      admin.k,
    );
    await assert.rejects(open(server.url('latin')), {
      code: 'database.schema',
      message: /its encoding is LATIN1, want UTF8/,
    });
  });

  test('openDatabase() says which privilege a user of PostgreSQL lacks', async () => {
    const { server, url } = await freshUrl();
    await using admin = await open(await server.createDatabase());
    await sql`create role weak login password 'weak-secret'`.execute(admin.k);
    const weak = new URL(url);
    weak.username = 'weak';
    weak.password = 'weak-secret';
    await assert.rejects(open(weak.href), (reason) => {
      assert.ok(isBuilderdError(reason, 'database.unavailable'));
      assert.match(reason.message, /the user lacks a privilege \(42501\)/);
      return true;
    });
  });
});
