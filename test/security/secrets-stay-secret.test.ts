import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { sql } from 'kysely';
import { createTenantService } from '../../src/builds/service/tenants/create-tenant-service.ts';
import type { Log } from '../../src/core/log.ts';
import { openCredential } from '../../src/store/credentials/credential-rows.ts';
import { callerOf, OPERATOR } from '../fixtures/callers.ts';
import { openTestSqlite } from '../fixtures/databases.ts';
import { inTime, testServices } from '../fixtures/services.ts';

const CANARY = 'canary7f3a9';

test('H2: no secret is in the database file, in an answer, in an error or in a log', async () => {
  await using opened = await openTestSqlite();
  const { database, config } = opened;
  const services = testServices(database);
  const { tenants, events } = services;
  const acme = await services.tenant('acme');
  const caller = callerOf('acme');
  const said: unknown[] = [];

  said.push(
    await tenants.putCredential(
      caller,
      acme,
      { kind: 'git', host: 'github.com', username: 'u', password: `${CANARY}-password` },
      inTime(),
    ),
    await tenants.putCredential(
      caller,
      acme,
      { kind: 'git', host: 'gitlab.com', sshKey: `-----BEGIN\n${CANARY}-key\n-----END` },
      inTime(),
    ),
    await tenants.putCredential(
      caller,
      acme,
      { kind: 'registry', host: 'ghcr.io', token: `${CANARY}-token` },
      inTime(),
    ),
  );
  const made = await tenants.createToken(
    OPERATOR,
    { role: 'tenant', tenant: acme, name: 'x' },
    inTime(),
  );
  const hook = await events.createWebhook(
    caller,
    acme,
    { url: `https://example.com/${CANARY}-path?key=${CANARY}-query`, events: ['build.completed'] },
    inTime(),
  );
  said.push(made.token, await tenants.listTokens(caller, acme, inTime()));
  said.push(await tenants.listCredentials(acme, inTime()));
  said.push(await tenants.audit(OPERATOR, { limit: 100, ...inTime() }));

  // What fails must not tell either.
  const bad = [
    { kind: 'registry', host: `https://u:${CANARY}-url@ghcr.io/`, token: 'x' },
    { kind: 'registry', host: 'ghcr.io', token: `${CANARY}\r\nX-Evil: 1` },
    { kind: 'registry', host: 'ghcr.io', password: `${CANARY}-without-user` },
    { kind: 'registry', host: 'ghcr.io', sshKey: `${CANARY}-key` },
    { kind: 'registry', host: 'ghcr.io', token: CANARY.repeat(5000) },
    { kind: 'registry', host: 'ghcr.io', username: `${CANARY}:x`, password: 'p' },
  ] as const;
  for (const input of bad) {
    const failed = await tenants.putCredential(caller, acme, input, inTime()).then(
      () => assert.fail(`took ${input.host}`),
      (reason: unknown) => reason,
    );
    assert.ok(failed instanceof Error && 'code' in failed && failed.code === 'api.invalid');
    said.push(failed.message, failed.stack, inspect(failed, { depth: 9 }));
  }
  for (const url of [`https://u:${CANARY}@example.com/`, `http://10.0.0.1/${CANARY}`]) {
    const wish = { url, events: ['build.completed'] } as const;
    const failed = await events.createWebhook(caller, acme, wish, inTime()).then(
      () => assert.fail('took it'),
      (reason: unknown) => reason,
    );
    said.push(inspect(failed, { depth: 9 }));
  }
  const scope = { tenantId: acme.id, kind: 'registry', host: 'ghcr.io' } as const;
  const held = await openCredential(database, services.secrets, scope);
  assert.equal(held?.token?.reveal(), `${CANARY}-token`);
  said.push(
    inspect(held, { depth: 9, showHidden: true }),
    JSON.stringify(held),
    String(held?.token),
  );

  const everything = said.map((each) => (typeof each === 'string' ? each : JSON.stringify(each)));
  for (const text of everything) {
    assert.equal(text.includes(CANARY), false, text.slice(0, 300));
    assert.equal(text.includes(made.secret) || text.includes(hook.secret), false);
  }

  assert.ok(config.type === 'sqlite');
  const files = await readdir(config.directory);
  const stored = await Promise.all(
    files.map((file) => readFile(path.join(config.directory, file))),
  );
  assert.ok(stored.some((bytes) => bytes.includes('ghcr.io')));
  const secretTexts = [
    ...['-password', '-key', '-token', '-url'].map((end) => CANARY + end),
    made.secret.slice(12),
    hook.secret,
  ];
  for (const text of secretTexts) {
    for (const bytes of stored) assert.equal(bytes.includes(text), false, text);
  }
});

test('the use of a token that cannot be noted is logged without the token, and still counts', async () => {
  await using opened = await openTestSqlite();
  const services = testServices(opened.database);
  const acme = await services.tenant('acme');
  const wish = { role: 'tenant', tenant: acme, name: 'x' } as const;
  const { secret } = await services.tenants.createToken(OPERATOR, wish, inTime());
  const lines: unknown[] = [];
  const keep: Log['warn'] = (fields, message) => lines.push(inspect(fields, { depth: 9 }), message);
  const log: Log = { debug: keep, info: keep, warn: keep, error: keep, child: () => log };
  const { database } = opened;
  await sql`create trigger no_update before update on tokens
    begin select raise(abort, 'the disk is full'); end`.execute(database.k);
  const tenants = createTenantService({
    database,
    secrets: services.secrets,
    log,
    newTenants: { tier: 'free', overrides: {} },
    createMissing: false,
  });
  assert.equal((await tenants.authenticate(secret, inTime()))?.role, 'tenant');
  assert.equal(lines.length, 2);
  assert.match(JSON.stringify(lines), /the disk is full/);
  assert.equal(JSON.stringify(lines).includes(secret.slice(4)), false);
});
