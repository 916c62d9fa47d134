import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { openCredential } from '../../src/store/credentials/credential-rows.ts';
import { loadMasterKeys } from '../../src/store/secrets/load-master-keys.ts';
import { openSealedSecrets } from '../../src/store/secrets/open-sealed-secrets.ts';
import { resealSecrets } from '../../src/store/secrets/reseal-secrets.ts';
import { callerOf } from '../fixtures/callers.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { inTime, testServices } from '../fixtures/services.ts';
import { keyText, testSecrets } from '../fixtures/test-secrets.ts';

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'bd-key-'));
  try {
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

const PLACE = { table: 'credentials', tenantId: 't', rowId: 'r' } as const;

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: the first start makes a private key file, the next ones use it`, async () => {
    await using opened = await openTestDatabase();
    await inDirectory(async (dataDirectory) => {
      const start = () => openSealedSecrets(opened.database, { dataDirectory }, inTime());
      const outcomes = await Promise.all([start(), start()]);
      const made = outcomes.filter(({ madeFile }) => madeFile !== undefined);
      assert.equal(made.length, 1);
      const file = path.join(dataDirectory, 'master.key');
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      const again = await start();
      assert.equal(again.madeFile, undefined);
      const sealed = made[0]?.secrets.seal(PLACE, 'canary') ?? new Uint8Array();
      assert.equal(again.secrets.open(PLACE, sealed).toString(), 'canary');
    });
  });

  test(`${name}: a key that is lost or another one stops the start, and no new one is made`, async () => {
    await using opened = await openTestDatabase();
    await inDirectory(async (dataDirectory) => {
      const { database } = opened;
      await openSealedSecrets(database, { dataDirectory }, inTime());
      const file = path.join(dataDirectory, 'master.key');
      await rm(file);
      await assert.rejects(openSealedSecrets(database, { dataDirectory }, inTime()), {
        code: 'config.invalid',
        message: /master\.key/,
      });
      await assert.rejects(stat(file), { code: 'ENOENT' });
      const other = { dataDirectory, value: keyText(9) };
      await assert.rejects(openSealedSecrets(database, other, inTime()), {
        code: 'config.invalid',
        message: /under another one/,
      });
    });
  });

  test(`${name}: rotation reseals every kind of secret, and the old key can go`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const source = (...bytes: number[]) => ({
      dataDirectory: '/nonexistent',
      value: bytes.map(keyText).join(','),
    });
    const { secrets: old } = await openSealedSecrets(database, source(1), inTime());
    const services = testServices(database, { secrets: old });
    const acme = await services.tenant('acme');
    const credential = { kind: 'registry', host: 'ghcr.io', token: 'canary' } as const;
    await services.tenants.putCredential(callerOf('acme'), acme, credential, inTime());
    const hook = { url: 'https://example.com/', events: ['build.completed'] } as const;
    await services.events.createWebhook(callerOf('acme'), acme, hook, inTime());
    const keyId = crypto.randomUUID();
    const keyPlace = { table: 'data_keys', tenantId: acme.id, rowId: keyId } as const;
    await database.k
      .insertInto('data_keys')
      .values({
        id: keyId,
        tenant_id: acme.id,
        sealed: old.seal(keyPlace, 'data key'),
        created_at: 1,
        retired_at: null,
      })
      .execute();
    // One that nobody can open must not stop the others.
    await database.k
      .insertInto('data_keys')
      .values({
        id: crypto.randomUUID(),
        tenant_id: acme.id,
        sealed: testSecrets(77).seal(keyPlace, 'x'),
        created_at: 1,
        retired_at: null,
      })
      .execute();

    const rotated = await openSealedSecrets(database, source(2, 1), inTime());
    assert.deepEqual(rotated.resealed, { resealed: 3, unreadable: 1 });
    const again = await openSealedSecrets(database, source(2, 1), inTime());
    assert.equal(again.resealed, undefined);
    assert.deepEqual(await resealSecrets(database, again.secrets, inTime()), {
      resealed: 0,
      unreadable: 1,
    });

    const { secrets: fresh } = await openSealedSecrets(database, source(2), inTime());
    const scope = { tenantId: acme.id, kind: 'registry', host: 'ghcr.io' } as const;
    // One with the old order turns it back, which harms nobody who has both keys.
    const { secrets: behind } = await openSealedSecrets(database, source(1, 2), inTime());
    assert.equal(behind.isOutdated(behind.seal(keyPlace, 'x')), false);
    await openSealedSecrets(database, source(2, 1), inTime());
    const found = await openCredential(database, fresh, scope);
    assert.equal(found?.token?.reveal(), 'canary');
    const rows = await database.k
      .selectFrom('data_keys')
      .selectAll()
      .where('id', '=', keyId)
      .execute();
    const sealed = rows[0]?.sealed ?? new Uint8Array();
    assert.equal(fresh.open(keyPlace, sealed).toString(), 'data key');
    await assert.rejects(openSealedSecrets(database, source(1), inTime()), {
      code: 'config.invalid',
    });
  });

  test(`${name}: a credential row that was moved to another tenant does not open`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const acme = await services.tenant('acme');
    const thief = await services.tenant('thief');
    const input = { kind: 'git', host: 'github.com', username: 'u', password: 'canary' } as const;
    await services.tenants.putCredential(callerOf('acme'), acme, input, inTime());
    const scope = { kind: 'git', host: 'github.com' } as const;
    await opened.database.k.updateTable('credentials').set({ tenant_id: thief.id }).execute();
    const stolen = openCredential(opened.database, services.secrets, {
      ...scope,
      tenantId: thief.id,
    });
    await assert.rejects(stolen, { code: 'internal', message: /another row/ });
  });

  test(`${name}: credentials are replaced, found by exact host only, and deleted`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const services = testServices(database);
    const { tenants } = services;
    const [acme, other] = [await services.tenant('acme'), await services.tenant('other')];
    const caller = callerOf('acme');
    const put = (password: string) =>
      tenants.putCredential(
        caller,
        acme,
        { kind: 'registry', host: 'GHCR.io:443', username: 'u', password },
        inTime(),
      );
    const first = await put('one');
    const second = await put('two');
    assert.equal(first.id, second.id);
    assert.deepEqual(Object.keys(second).sort(), ['createdAt', 'host', 'id', 'kind', 'updatedAt']);
    assert.deepEqual(await tenants.listCredentials(acme, inTime()), [second]);
    assert.deepEqual(await tenants.listCredentials(other, inTime()), []);
    const scope = { tenantId: acme.id, kind: 'registry', host: 'ghcr.io:443' } as const;
    const open = (change: object) =>
      openCredential(database, services.secrets, { ...scope, ...change });
    assert.equal((await open({}))?.password?.reveal(), 'two');
    for (const change of [
      { host: 'ghcr.io' },
      { host: 'evil-ghcr.io:443' },
      { host: 'a.ghcr.io:443' },
      { kind: 'git' },
      { tenantId: other.id },
    ]) {
      assert.equal(await open(change), undefined);
    }
    await assert.rejects(tenants.deleteCredential(callerOf('other'), other, first.id, inTime()), {
      code: 'api.not_found',
    });
    await tenants.deleteCredential(caller, acme, first.id, inTime());
    assert.deepEqual(await tenants.listCredentials(acme, inTime()), []);
  });
});

test('loadMasterKeys() reads a file, a value or a command, and at most one of them', async () => {
  await inDirectory(async (dataDirectory) => {
    const file = path.join(dataDirectory, 'key');
    await writeFile(file, keyText(3), { mode: 0o600 });
    const script = path.join(dataDirectory, 'print-key');
    await writeFile(script, `#!/bin/sh\necho ${keyText(3)}\necho "$1$SECRET" >&2\n`, {
      mode: 0o700,
    });
    const load = (source: object) =>
      loadMasterKeys({ dataDirectory, ...source }, { mayMake: true, ...inTime() });
    const loaded = await Promise.all([
      load({ file }),
      load({ value: keyText(3) }),
      load({ command: `${script} argument` }),
    ]);
    assert.equal(new Set(loaded.map(({ keys }) => keys.current.id)).size, 1);
    const refused = [
      { file, value: keyText(3) },
      { command: 'print-key' },
      { command: '/nonexistent/print-key' },
      { command: '/bin/false' },
      { command: '/bin/echo hunter2' },
      { command: `/bin/sh -c 'echo hunter2'` },
      { file: dataDirectory },
      { file: '/dev/zero' },
      { file: path.join(dataDirectory, 'missing') },
    ];
    for (const source of refused) {
      await assert.rejects(
        load(source),
        (fault: Error) =>
          'code' in fault &&
          fault.code === 'config.invalid' &&
          !fault.message.endsWith('echo hunter2'),
        JSON.stringify(source),
      );
    }
    await chmod(file, 0o644);
    await assert.rejects(load({ file }), { code: 'config.invalid', message: /everybody/ });
    assert.equal(await readFile(file, 'utf8'), keyText(3));
  });
});
