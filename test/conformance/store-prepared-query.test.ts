import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Db } from '../../src/store/database.ts';
import { PreparedQuery } from '../../src/store/prepared-query.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

const signal = AbortSignal.timeout(170_000);

const VALUE_OF = new PreparedQuery<{ key: string }>((k, value) =>
  k.selectFrom('meta').select('value').where('key', '=', value('key')),
);

const addKey = (db: Pick<Db, 'k'>, key: string, value: string): Promise<unknown> =>
  db.k.insertInto('meta').values({ key, value }).execute();

forEachDatabase((name, openTestDatabase) => {
  test(`a prepared query on ${name} gives the rows of the values of each run`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await addKey(database, 'a', '1');
    await addKey(database, 'b', '2');
    assert.deepEqual(await VALUE_OF.run(database, { key: 'a' }), [{ value: '1' }]);
    assert.deepEqual(await VALUE_OF.run(database, { key: 'b' }), [{ value: '2' }]);
    assert.deepEqual(await VALUE_OF.run(database, { key: 'c' }), []);
  });

  test(`a prepared query on ${name} sees of a transaction what its own side may see`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const written = Promise.withResolvers<void>();
    const looked = Promise.withResolvers<void>();
    const failing = database.transaction(
      async (tx) => {
        await addKey(tx, 'a', '1');
        assert.deepEqual(await VALUE_OF.run(tx, { key: 'a' }), [{ value: '1' }]);
        written.resolve();
        await looked.promise;
        throw new Error('on purpose');
      },
      { signal },
    );
    const over = assert.rejects(failing, /on purpose/);
    await Promise.race([written.promise, over]);
    const outside = VALUE_OF.run(database, { key: 'a' });
    looked.resolve();
    await over;
    assert.deepEqual(await outside, []);
  });

  test(`a prepared query on ${name} is refused to a transaction's body without its connection`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    await assert.rejects(
      database.transaction(() => VALUE_OF.run(database, { key: 'a' }), { signal }),
      { code: 'internal', message: /inside a transaction/ },
    );
    assert.deepEqual(await VALUE_OF.run(database, { key: 'a' }), []);
  });

  test(`a prepared query on a closed ${name} is a fault`, async () => {
    await using opened = await openTestDatabase();
    const other = await opened.open();
    assert.deepEqual(await VALUE_OF.run(other, { key: 'a' }), []);
    await other[Symbol.asyncDispose]();
    await assert.rejects(VALUE_OF.run(other, { key: 'a' }));
  });
});
