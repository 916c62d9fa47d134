import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { sql } from 'kysely';
import { bootstrapOperatorToken } from '../../src/builds/service/tenants/bootstrap-operator-token.ts';
import { pruneTokens } from '../../src/store/tokens/prune-tokens.ts';
import { newTokenText } from '../../src/store/tokens/token-record.ts';
import { callerOf, OPERATOR } from '../fixtures/callers.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { inTime, testServices } from '../fixtures/services.ts';
import { callerWith, insertTokenRow } from '../fixtures/tokens.ts';

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: a token stands for its role and tenant until it is revoked`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const wish = { role: 'tenant', tenant: acme, name: 'ci' } as const;
    const { token, secret } = await tenants.createToken(OPERATOR, wish, inTime());
    assert.match(secret, /^bld_[A-Za-z0-9_-]{43}$/);
    assert.ok(secret.startsWith(token.prefix) && token.prefix.length === 10);
    assert.equal(token.lastUsedAt, undefined);
    const caller = await tenants.authenticate(secret, inTime());
    assert.deepEqual(caller, {
      actor: `token:${token.id}`,
      role: 'tenant',
      tenants: new Set(['acme']),
    });
    const [listed] = (await tenants.listTokens(OPERATOR, acme, inTime())).tokens;
    assert.equal(typeof listed?.lastUsedAt, 'number');
    await tenants.authenticate(secret, inTime());
    const [again] = (await tenants.listTokens(OPERATOR, acme, inTime())).tokens;
    // Throttled: the second use in a minute writes nothing.
    assert.equal(again?.lastUsedAt, listed?.lastUsedAt);
    await tenants.revokeToken(OPERATOR, acme, token.id, inTime());
    assert.equal(await tenants.authenticate(secret, inTime()), undefined);
    // Again: nothing to do, and nothing to audit.
    await tenants.revokeToken(OPERATOR, acme, token.id, inTime());
    const audited = await tenants.audit(OPERATOR, { limit: 50, ...inTime() });
    const actions = audited.map((entry) => entry.action).sort();
    assert.deepEqual(actions, ['tenant.create', 'token.create', 'token.revoke']);
  });

  test(`${name}: nothing but a live token authenticates`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const acme = await services.tenant('acme');
    const wish = { role: 'reader', tenant: acme, name: 'x', ttlSeconds: 60 } as const;
    const { secret, token } = await services.tenants.createToken(OPERATOR, wish, inTime());
    assert.equal(Math.round(((token.expiresAt ?? 0) - token.createdAt) / 1000), 60);
    const foreign = [
      newTokenText(),
      secret.slice(0, -1),
      `${secret}A`,
      secret.toUpperCase(),
      `${secret}\n`,
      token.prefix,
      token.id,
      '',
      "' or 1=1 --",
    ];
    for (const text of foreign) {
      assert.equal(await services.tenants.authenticate(text, inTime()), undefined);
    }
    assert.notEqual(await services.tenants.authenticate(secret, inTime()), undefined);
    await sql`update tokens set expires_at = created_at - 1`.execute(opened.database.k);
    assert.equal(await services.tenants.authenticate(secret, inTime()), undefined);
  });

  test(`${name}: the database holds no token, only its hash`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const wish = { role: 'operator', name: 'op' } as const;
    const { secret } = await services.tenants.createToken(OPERATOR, wish, inTime());
    const rows = await opened.database.k.selectFrom('tokens').selectAll().execute();
    assert.equal(JSON.stringify(rows).includes(secret.slice(12)), false);
    assert.equal(Buffer.from(rows[0]?.hash ?? []).includes(secret.slice(4)), false);
  });

  test(`${name}: a tenant makes tokens for itself only, and not above itself`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const [acme, other] = [await services.tenant('acme'), await services.tenant('other')];
    const caller = callerOf('acme');
    const refused = [
      tenants.createToken(caller, { role: 'operator', name: 'x' }, inTime()),
      tenants.createToken(caller, { role: 'tenant', tenant: other, name: 'x' }, inTime()),
      tenants.createToken(
        callerOf('acme', 'reader'),
        { role: 'reader', tenant: acme, name: 'x' },
        inTime(),
      ),
      tenants.listTokens(caller, undefined, inTime()),
      tenants.listTokens(caller, other, inTime()),
    ];
    for (const attempt of refused) await assert.rejects(attempt, { code: 'api.forbidden' });
    const made = await tenants.createToken(
      caller,
      { role: 'reader', tenant: acme, name: 'x' },
      inTime(),
    );
    const bad = [
      { role: 'tenant', name: 'x' },
      { role: 'operator', tenant: acme, name: 'x' },
      { role: 'tenant', tenant: acme, name: '' },
      { role: 'tenant', tenant: acme, name: 'a\0b' },
      { role: 'tenant', tenant: acme, name: '\ud800' },
      { role: 'tenant', tenant: acme, name: 'x', ttlSeconds: 0 },
      { role: 'tenant', tenant: acme, name: 'x', ttlSeconds: 1e12 },
      { role: 'tenant', tenant: acme, name: 'x', ttlSeconds: 1.5 },
    ] as const;
    for (const wish of bad) {
      await assert.rejects(tenants.createToken(OPERATOR, wish, inTime()), { code: 'api.invalid' });
    }
    // Another tenant's token is not there at all.
    for (const id of [made.token.id, 'no-uuid', crypto.randomUUID()]) {
      await assert.rejects(tenants.revokeToken(callerOf('other'), other, id, inTime()), {
        code: 'api.not_found',
      });
    }
  });

  test(`${name}: a token that ends makes none that lasts longer, and takes those it made along`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const wish = { role: 'tenant', tenant: acme, name: 'parent', ttlSeconds: 600 } as const;
    const parent = await tenants.createToken(OPERATOR, wish, inTime());
    const asParent = await callerWith(services, parent.secret);
    const child = await tenants.createToken(
      asParent,
      { role: 'tenant', tenant: acme, name: 'child', ttlSeconds: 99_999 },
      inTime(),
    );
    assert.equal(child.token.expiresAt, parent.token.expiresAt);
    const asChild = await callerWith(services, child.secret);
    const grandchild = await tenants.createToken(
      asChild,
      { role: 'reader', tenant: acme, name: 'grandchild' },
      inTime(),
    );
    await tenants.revokeToken(OPERATOR, undefined, parent.token.id, inTime());
    for (const { secret } of [parent, child, grandchild]) {
      assert.equal(await tenants.authenticate(secret, inTime()), undefined);
    }
  });

  test(`${name}: a token that was revoked, or an operator's that ends, makes nothing that outlives it`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const wish = { role: 'tenant', tenant: acme, name: 'ci' } as const;
    const { token, secret } = await tenants.createToken(OPERATOR, wish, inTime());
    // What an api process still believes for some seconds.
    const believed = await callerWith(services, secret);
    await tenants.revokeToken(OPERATOR, acme, token.id, inTime());
    await assert.rejects(tenants.createToken(believed, wish, inTime()), {
      code: 'api.unauthenticated',
    });
    const short = { role: 'operator', name: 'an hour', ttlSeconds: 3600 } as const;
    const operator = await tenants.createToken(OPERATOR, short, inTime());
    const acting = await callerWith(services, operator.secret);
    const child = await tenants.createToken(acting, { role: 'operator', name: 'x' }, inTime());
    assert.equal(child.token.expiresAt, operator.token.expiresAt);
  });

  test(`${name}: what a JWT makes ends with the JWT`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const acme = await services.tenant('acme');
    const create = (expiresAt: number, ttlSeconds?: number) =>
      services.tenants.createToken(
        { ...callerOf('acme'), actor: 'jwt:https://id.example/anna', expiresAt },
        {
          role: 'tenant',
          tenant: acme,
          name: 'x',
          ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
        },
        inTime(),
      );
    const end = Date.now() + 600_000;
    assert.equal((await create(end)).token.expiresAt, end);
    assert.equal((await create(end, 99_999)).token.expiresAt, end);
    assert.ok(((await create(end, 60)).token.expiresAt ?? end) < end - 400_000);
    await assert.rejects(create(1), { code: 'api.unauthenticated' });
  });

  test(`${name}: tokens made at once stay within a tenant's thousand`, async () => {
    await using opened = await openTestDatabase();
    const second = await opened.open();
    const services = testServices(opened.database);
    const acme = await services.tenant('acme');
    await opened.database.transaction(async (tx) => {
      for (let n = 0; n < 997; n += 1) {
        await insertTokenRow(tx, acme, { id: crypto.randomUUID(), parent: 'none', ended: false });
      }
    }, inTime());
    const wish = { role: 'tenant', tenant: acme, name: 'x' } as const;
    const outcomes = await Promise.allSettled(
      Array.from({ length: 12 }, (_, n) =>
        testServices(n % 2 === 0 ? opened.database : second).tenants.createToken(
          OPERATOR,
          wish,
          inTime(),
        ),
      ),
    );
    const refused = outcomes.filter((each) => each.status === 'rejected');
    assert.deepEqual(
      refused.map(({ reason }) => Reflect.get(Object(reason), 'code')),
      Array<string>(9).fill('api.conflict'),
    );
  });

  test(`${name}: a list begins with the tokens that work, and has pages`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1) {
      const wish = { role: 'reader', tenant: acme, name: `t${n}` } as const;
      ids.push((await tenants.createToken(OPERATOR, wish, inTime())).token.id);
    }
    for (const id of ids.slice(2)) await tenants.revokeToken(OPERATOR, acme, id, inTime());
    const names: string[][] = [];
    let cursor: string | undefined;
    do {
      const page = await tenants.listTokens(OPERATOR, acme, {
        ...inTime(),
        limit: 3,
        ...(cursor === undefined ? {} : { cursor }),
      });
      names.push(page.tokens.map((each) => each.name));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    assert.deepEqual(names, [['t1', 't0', 't6'], ['t5', 't4', 't3'], ['t2']]);
    for (const bad of [{ limit: 0 }, { limit: 501 }, { cursor: 'live.x' }, { cursor: "'" }]) {
      await assert.rejects(tenants.listTokens(OPERATOR, acme, { ...inTime(), ...bad }), {
        code: 'api.invalid',
      });
    }
  });

  test(`${name}: dead tokens are forgotten, but not an operator's, nor one that still leads to another`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    const make = (tokenName: string, by = OPERATOR) =>
      tenants.createToken(by, { role: 'tenant', tenant: acme, name: tokenName }, inTime());
    const [live, leads] = [await make('live'), await make('leads')];
    const child = await make('child', await callerWith(services, leads.secret));
    const [revoked, ended] = [await make('revoked'), await make('ended')];
    const chain = await make('chain');
    await make('chained', await callerWith(services, chain.secret));
    const operator = await tenants.createToken(OPERATOR, { role: 'operator', name: 'o' }, inTime());
    for (const { token } of [revoked, chain, operator]) {
      await tenants.revokeToken(OPERATOR, undefined, token.id, inTime());
    }
    const alone = { ...inTime(), cascade: false };
    await tenants.revokeToken(OPERATOR, acme, leads.token.id, alone);
    await opened.database.k
      .updateTable('tokens')
      .set({ expires_at: 1 })
      .where('id', '=', ended.token.id)
      .execute();
    // All of it is fresh but the one that ended long ago.
    assert.equal(await pruneTokens(opened.database, { olderThanMs: 86_400_000 }), 1);
    assert.equal(await pruneTokens(opened.database, { olderThanMs: -60_000, batch: 1 }), 3);
    const { tokens } = await tenants.listTokens(OPERATOR, undefined, inTime());
    assert.deepEqual(
      tokens.map((each) => each.name),
      ['child', 'live', 'o', 'leads'],
    );
    await tenants.revokeToken(OPERATOR, acme, leads.token.id, inTime());
    assert.equal(await tenants.authenticate(child.secret, inTime()), undefined);
    assert.notEqual(await tenants.authenticate(live.secret, inTime()), undefined);
  });

  test(`${name}: the first start makes one operator token, however many processes start`, async () => {
    await using opened = await openTestDatabase();
    const second = await opened.open();
    const outcomes = await Promise.all(
      [opened.database, second, opened.database].map((each) =>
        bootstrapOperatorToken(each, inTime()),
      ),
    );
    assert.deepEqual(outcomes.map(({ kind }) => kind).sort(), ['made', 'present', 'present']);
    const made = outcomes.find((outcome) => outcome.kind === 'made');
    const caller = await testServices(second).tenants.authenticate(made?.secret ?? '', inTime());
    assert.equal(caller?.role, 'operator');
    assert.equal(caller?.tenants, 'all');
  });

  test(`${name}: the first operator token can come from a private file`, async () => {
    await using opened = await openTestDatabase();
    const { tenants } = testServices(opened.database);
    const directory = await mkdtemp(path.join(tmpdir(), 'bd-token-'));
    try {
      const tokenFile = path.join(directory, 'token');
      const text = newTokenText();
      await writeFile(tokenFile, `${text}\n`, { mode: 0o600 });
      const start = () => bootstrapOperatorToken(opened.database, { tokenFile, ...inTime() });
      assert.deepEqual(await start(), { kind: 'from-file' });
      assert.deepEqual(await start(), { kind: 'present' });
      const caller = await tenants.authenticate(text, inTime());
      await tenants.revokeToken(OPERATOR, undefined, caller?.actor.slice(6) ?? '', inTime());
      await assert.rejects(start(), { code: 'config.invalid', message: /revoked/ });
      await chmod(tokenFile, 0o644);
      await assert.rejects(start(), { code: 'config.invalid', message: /everybody/ });
      await writeFile(tokenFile, 'hunter2');
      await chmod(tokenFile, 0o600);
      await assert.rejects(
        start(),
        (fault: Error) => !fault.message.includes('hunter2') && fault.message.includes('base64url'),
      );
      await assert.rejects(
        bootstrapOperatorToken(opened.database, { tokenFile: directory, ...inTime() }),
        { code: 'config.invalid' },
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
