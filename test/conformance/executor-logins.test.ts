import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openRegistryLogins } from '../../src/builds/executor/registry-logins.ts';
import { SecretText } from '../../src/core/secret-text.ts';
import { putCredential } from '../../src/store/credentials/credential-rows.ts';
import type { TenantRecord } from '../../src/store/tenants/tenant-record.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { type ExecutorService, openExecutorService } from '../fixtures/executor-service.ts';

const soon = (): { readonly signal: AbortSignal } => ({ signal: AbortSignal.timeout(30_000) });
const REGISTRY = 'registry.test:5000';

async function keep(
  service: ExecutorService,
  { id: tenantId }: TenantRecord,
  host: string,
  password: string,
): Promise<void> {
  const { secrets } = service.options();
  const secret = { username: 'kept', password: new SecretText(password) };
  const scope = { tenantId, kind: 'registry', host } as const;
  await service.database.transaction((tx) => putCredential(tx, secrets, scope, secret), soon());
}

forEachDatabase((_name, openTestDatabase) => {
  test('a login is for exactly one host, of one tenant; that of the request goes to its own registry', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database } = service;
    const { secrets } = service.options();
    const [acme, other] = [await service.tenant('acme'), await service.tenant('other')];
    await keep(service, acme, REGISTRY, 'kept-here');
    await keep(service, acme, 'mirror.test', 'kept-for-the-mirror');
    await keep(service, other, 'foreign.test', 'of-another-tenant');
    const plain = await service.submit(acme);
    const asked = await service.submit(
      acme,
      {},
      { secrets: { username: 'me', password: 'given' } },
    );
    const loginsOf = (buildId: typeof plain) =>
      openRegistryLogins(database, secrets, { tenantId: acme.id, buildId, attempt: 1 }, REGISTRY);

    const kept = await loginsOf(plain);
    const given = await loginsOf(asked);
    const password = (user: string, text: string) => ({ kind: 'password', user, password: text });
    assert.deepEqual(await kept.credentialFor(REGISTRY, soon()), password('kept', 'kept-here'));
    assert.deepEqual(await given.credentialFor(REGISTRY, soon()), password('me', 'given'));
    // The request's login is for its registry alone: a mirror gets what the tenant keeps for it.
    const mirror = await given.credentialFor('mirror.test', soon());
    assert.deepEqual(mirror, password('kept', 'kept-for-the-mirror'));
    for (const host of ['registry.test', 'x.registry.test:5000', 'foreign.test', 'docker.io']) {
      assert.equal(await given.credentialFor(host, soon()), undefined, host);
    }
    assert.deepEqual([...given.secrets].toSorted(), ['given', 'kept-here']);
  });

  test('a token with a user is a password, one without is for a token server', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database } = service;
    const { secrets } = service.options();
    const tenant = await service.tenant('acme');
    const cases = [
      [
        { username: 'me', token: 'T' },
        { kind: 'password', user: 'me', password: 'T' },
      ],
      [{ token: 'T' }, { kind: 'identity-token', token: 'T' }],
      [{ username: 'me', password: '' }, undefined],
    ] as const;
    for (const [given, wanted] of cases) {
      const buildId = await service.submit(tenant, {}, { secrets: given });
      const key = { tenantId: tenant.id, buildId, attempt: 1 };
      const logins = await openRegistryLogins(database, secrets, key, REGISTRY);
      assert.deepEqual(await logins.credentialFor(REGISTRY, soon()), wanted);
    }
  });
});
