import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import type { Db } from '../../src/store/database.ts';
import { noteTokenUse } from '../../src/store/tokens/token-rows.ts';
import { OPERATOR } from '../fixtures/callers.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { failingDatabase } from '../fixtures/failing-database.ts';
import { inTime, testServices } from '../fixtures/services.ts';
import { callerWith, insertTokenRow } from '../fixtures/tokens.ts';

/** Until somebody waits for a lock of this transaction. */
async function untilBlocked(tx: Db): Promise<void> {
  for (let tries = 0; tries < 6000; tries += 1) {
    const { rows } = await sql`
      select pid from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))
    `.execute(tx.k);
    if (rows.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail('nobody came to wait');
}

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: revoking a token reaches all that it made, however many and however deep`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const [acme, other] = [await services.tenant('acme'), await services.tenant('other')];
    const root = await tenants.createToken(
      OPERATOR,
      { role: 'tenant', tenant: acme, name: 'root' },
      inTime(),
    );
    const bystander = await tenants.createToken(
      OPERATOR,
      { role: 'tenant', tenant: acme, name: 'bystander' },
      inTime(),
    );
    // A chain of 40 with 12 leaves each: more than one batch, and the middle of it has ended.
    let parent = root.token.id;
    for (let depth = 0; depth < 40; depth += 1) {
      const ids = Array.from({ length: 13 }, () => crypto.randomUUID());
      for (const id of ids) {
        await insertTokenRow(opened.database, acme, { id, parent, ended: id === ids[0] });
      }
      parent = ids[0] ?? '';
    }
    // A row that builderd does not write: another tenant's token is never reached from here.
    const foreign = crypto.randomUUID();
    await insertTokenRow(opened.database, other, {
      id: foreign,
      parent: root.token.id,
      ended: false,
    });
    await tenants.revokeToken(OPERATOR, acme, root.token.id, inTime());
    const { tokens } = await tenants.listTokens(OPERATOR, undefined, inTime());
    const left = tokens.filter(({ revokedAt, expiresAt }) => !(revokedAt ?? expiresAt));
    assert.deepEqual(new Set(left.map(({ id }) => id)), new Set([bystander.token.id, foreign]));
    const audited = await opened.database.k
      .selectFrom('audit')
      .select('target')
      .where('action', '=', 'token.revoke')
      .where('tenant_id', '=', acme.id)
      .execute();
    assert.equal(audited.length, 1 + 40 * 12);
  });

  test(`${name}: a revocation that was cut off has revoked its token, and a repeat does the rest`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const wish = { role: 'tenant', tenant: acme, name: 'x' } as const;
    const root = await tenants.createToken(OPERATOR, wish, inTime());
    const asRoot = await callerWith(services, root.secret);
    const child = await tenants.createToken(asRoot, wish, inTime());
    let transactions = 0;
    const failing = failingDatabase(opened.database, () => (transactions += 1) > 1);
    await assert.rejects(
      testServices(failing).tenants.revokeToken(OPERATOR, acme, root.token.id, inTime()),
    );
    assert.equal(await tenants.authenticate(root.secret, inTime()), undefined);
    assert.notEqual(await tenants.authenticate(child.secret, inTime()), undefined);
    await tenants.revokeToken(OPERATOR, acme, root.token.id, inTime());
    assert.equal(await tenants.authenticate(child.secret, inTime()), undefined);
  });

  test(`${name}: a revocation reaches a token that is in use, or is just making another`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const second = await opened.open();
    const services = testServices(database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const wish = { role: 'tenant', tenant: acme, name: 'x' } as const;
    const root = await tenants.createToken(OPERATOR, wish, inTime());
    const asRoot = await callerWith(services, root.secret);
    const child = await tenants.createToken(asRoot, wish, inTime());
    const asChild = await callerWith(services, child.secret);
    // Its row is being written by another, for as long as the revocation needs to come upon it.
    const held = Promise.withResolvers<void>();
    const use = second.transaction(async (tx) => {
      await noteTokenUse(tx, child.token);
      if (name === 'postgres') {
        held.resolve();
        await untilBlocked(tx);
      }
    }, inTime());
    if (name === 'postgres') await held.promise;
    await Promise.all([use, tenants.revokeToken(OPERATOR, acme, root.token.id, inTime())]);
    assert.equal(await tenants.authenticate(child.secret, inTime()), undefined);

    const again = await tenants.createToken(OPERATOR, wish, inTime());
    const asAgain = await callerWith(services, again.secret);
    const busy = await tenants.createToken(asAgain, wish, inTime());
    const asBusy = await callerWith(services, busy.secret);
    const makers = Array.from({ length: 16 }, (_, n) =>
      testServices(n % 2 === 0 ? database : second)
        .tenants.createToken(n % 4 < 2 ? asBusy : asAgain, wish, inTime())
        .then(
          () => 'made',
          (reason: unknown) => String(Reflect.get(Object(reason), 'code')),
        ),
    );
    const revoked = tenants.revokeToken(OPERATOR, acme, again.token.id, inTime());
    const outcomes = await Promise.all(makers);
    await revoked;
    assert.ok(outcomes.every((each) => each === 'made' || each === 'api.unauthenticated'));
    const { tokens } = await tenants.listTokens(OPERATOR, acme, inTime());
    assert.deepEqual(
      tokens.filter(({ revokedAt }) => revokedAt === undefined),
      [],
    );
    await assert.rejects(tenants.createToken(asChild, wish, inTime()), {
      code: 'api.unauthenticated',
    });
  });

  test(`${name}: an operator's token takes operators' tokens along, and tenants' when told to`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const cases = [
      [undefined, [false, false, true, true]],
      [true, [false, false, false, false]],
      [false, [false, true, true, true]],
    ] as const;
    for (const [cascade, want] of cases) {
      const root = await tenants.createToken(OPERATOR, { role: 'operator', name: 'r' }, inTime());
      const asRoot = await callerWith(services, root.secret);
      const made = await tenants.createToken(asRoot, { role: 'operator', name: 'o' }, inTime());
      const asMade = await callerWith(services, made.secret);
      const wish = { role: 'tenant', tenant: acme, name: 't' } as const;
      const theirs = await tenants.createToken(asMade, wish, inTime());
      const asTheirs = await callerWith(services, theirs.secret);
      const last = await tenants.createToken(asTheirs, wish, inTime());
      await tenants.revokeToken(OPERATOR, undefined, root.token.id, {
        ...inTime(),
        ...(cascade === undefined ? {} : { cascade }),
      });
      const alive = [];
      for (const { secret } of [root, made, theirs, last]) {
        alive.push((await tenants.authenticate(secret, inTime())) !== undefined);
      }
      assert.deepEqual(alive, want, String(cascade));
    }
    // What another credential revoked without its tenant's name is in the tenant's audit log too.
    const audited = await tenants.audit(OPERATOR, { limit: 50, tenant: acme, ...inTime() });
    assert.equal(audited.filter(({ action }) => action === 'token.revoke').length, 2);
  });
});
