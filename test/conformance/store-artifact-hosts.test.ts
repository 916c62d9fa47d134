import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newId } from '../../src/core/ids.ts';
import { refuseLocalStoreWithSeveralHosts } from '../../src/store/artifacts/refuse-shared-local-store.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

const DAY = 24 * 60 * 60_000;

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: a local store is refused while an executor of another host is alive`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const register = async (host: string, ageMs: number): Promise<void> => {
      await database.k
        .insertInto('executors')
        .values((eb) => ({
          id: newId(),
          host,
          version: '1',
          capabilities: '{}',
          draining: 0,
          started_at: database.now,
          heartbeat_at: eb(database.now, '-', ageMs),
        }))
        .execute();
    };
    const ask = (backend: 'local' | 's3') =>
      refuseLocalStoreWithSeveralHosts(database, { backend, host: 'here' });
    await register('here', 0);
    await register('there', DAY);
    await ask('local');
    await register('elsewhere', 1000);
    await assert.rejects(ask('local'), { code: 'config.invalid', message: /"elsewhere"/ });
    await ask('s3');
  });
});
