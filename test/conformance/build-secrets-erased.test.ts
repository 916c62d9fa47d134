import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuilderdError } from '../../src/core/errors.ts';
import type { BuildId, TenantId } from '../../src/core/ids.ts';
import { cancelBuild } from '../../src/store/builds/cancel-build.ts';
import type { Database, Db } from '../../src/store/database.ts';
import type { Fenced } from '../../src/store/queue/claim.ts';
import { completeBuild } from '../../src/store/queue/complete-build.ts';
import { endBuild } from '../../src/store/queue/end-build.ts';
import { reapExpired } from '../../src/store/queue/reap-expired.ts';
import { retryBuild } from '../../src/store/queue/retry-build.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { addBuild, addTenant, FACTS, mustClaim, signal, work } from '../fixtures/queue.ts';

const FAULT = new BuilderdError('source.unreachable', 'Cannot pull: the registry is away');

async function hasSecret(database: Database, id: BuildId): Promise<boolean> {
  const query = database.k
    .selectFrom('build_secrets')
    .select('build_id')
    .where('build_id', '=', id);
  return (await query.execute()).length > 0;
}

type End = (database: Database, fenced: Fenced, tenantId: TenantId) => Promise<unknown>;
const inside =
  (body: (tx: Db, fenced: Fenced) => Promise<unknown>): End =>
  (database, fenced) =>
    database.transaction((tx) => body(tx, fenced), { signal });

const ENDS: readonly (readonly [name: string, erased: boolean, end: End])[] = [
  [
    'completed',
    true,
    async (database, fenced) => {
      await work(database, fenced);
      await database.transaction((tx) => completeBuild(tx, fenced, FACTS), { signal });
    },
  ],
  ['failed', true, inside((tx, fenced) => endBuild(tx, fenced, { state: 'failed', error: FAULT }))],
  ['cancelled', true, inside((tx, fenced) => endBuild(tx, fenced, { state: 'cancelled' }))],
  [
    'lost for the last time',
    true,
    async (database) => {
      const reap = (): Promise<unknown> =>
        reapExpired(database, { graceMs: 1, deadOwners: ['executor-1'], signal });
      await reap();
      for (let tries = 2; tries <= 3; tries += 1) {
        await mustClaim(database);
        await reap();
      }
    },
  ],
  [
    'tried again',
    false,
    inside((tx, fenced) => retryBuild(tx, fenced, { delayMs: 0, error: FAULT })),
  ],
];

forEachDatabase((name, openTestDatabase) => {
  for (const [ending, erased, end] of ENDS) {
    test(`H5: the login of a build on ${name} that is ${ending} is ${erased ? 'erased with its end' : 'kept'}`, async () => {
      await using opened = await openTestDatabase();
      const { database } = opened;
      const tenantId = await addTenant(database, 'acme');
      const id = await addBuild(database, tenantId);
      const { fenced } = await mustClaim(database);
      assert.equal(await hasSecret(database, id), true);
      await end(database, fenced, tenantId);
      assert.equal(await hasSecret(database, id), !erased);
    });
  }

  test(`H5: the login of a build on ${name} that is cancelled while it waits is erased`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const tenantId = await addTenant(database, 'acme');
    const id = await addBuild(database, tenantId);
    assert.equal(await hasSecret(database, id), true);
    await database.transaction((tx) => cancelBuild(tx, tenantId, id), { signal });
    assert.equal(await hasSecret(database, id), false);
  });
});
