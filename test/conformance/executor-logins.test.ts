import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import type { AttemptImages } from '../../src/builds/executor/attempt-images.ts';
import { openRegistryLogins } from '../../src/builds/executor/registry-logins.ts';
import { LogReader } from '../../src/builds/logs/log-reader.ts';
import { BuilderdError } from '../../src/core/errors.ts';
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
    const opened: string[] = [];
    const loginsOf = (buildId: typeof plain) =>
      openRegistryLogins(
        database,
        secrets,
        { tenantId: acme.id, buildId, attempt: 1 },
        REGISTRY,
        (texts) => opened.push(...texts),
      );

    const kept = await loginsOf(plain);
    opened.length = 0;
    const given = await loginsOf(asked);
    assert.deepEqual(opened.toSorted(), ['given', 'kept-here']);
    const password = (user: string, text: string) => ({ kind: 'password', user, password: text });
    assert.deepEqual(await kept.credentialFor(REGISTRY, soon()), password('kept', 'kept-here'));
    assert.deepEqual(await given.credentialFor(REGISTRY, soon()), password('me', 'given'));
    // The request's login is for its registry alone: a mirror gets what the tenant keeps for it.
    const mirror = await given.credentialFor('mirror.test', soon());
    assert.deepEqual(mirror, password('kept', 'kept-for-the-mirror'));
    // Told of before it can be sent.
    assert.ok(opened.includes('kept-for-the-mirror'));
    for (const host of ['registry.test', 'x.registry.test:5000', 'foreign.test', 'docker.io']) {
      assert.equal(await given.credentialFor(host, soon()), undefined, host);
    }
  });

  test('H2: what a registry says back of a login, at once or later, shows in no row and no log', async () => {
    await using service = await openExecutorService(openTestDatabase);
    const { database } = service;
    const acme = await service.tenant('acme');
    await keep(service, acme, 'mirror.test', 'canary-of-the-mirror');
    const said = (text: string): string =>
      `${text} and ${encode(text)} and ${encode(`me:${text}`)}`;
    const encode = (text: string): string => Buffer.from(text).toString('base64');
    const images: AttemptImages = {
      ping: async () => undefined,
      leases: async () => [],
      release: async () => undefined,
      forgetUnused: async () => 0,
      forAttempt: ({ credentials, onCleanupFault }) => ({
        acquire: async (_, { onProgress, signal }) => {
          await credentials.credentialFor('mirror.test', { signal });
          const message = said('canary-of-the-request') + said('canary-of-the-mirror');
          onProgress({ kind: 'notice', level: 'warning', message });
          onCleanupFault('release', new Error(message));
          throw new BuilderdError('source.unsupported', `Cannot pull: it is served as ${message}`, {
            cause: new Error(message),
            details: { found: message },
          });
        },
      }),
    };
    await using running = service.start({ images });
    const id = await service.submit(
      acme,
      {},
      { secrets: { username: 'me', password: 'canary-of-the-request' } },
    );
    const build = await service.until(id);
    await running.idle();
    assert.equal(build.state, 'failed');
    const reader = new LogReader(database, service.artifacts);
    const log = await reader.read(acme.id, id, { from: 0, limit: 1000 }, soon());
    const shown = inspect([build, log, service.lines], { depth: 12, maxStringLength: null });
    assert.match(shown, /it is served as \*\*\*/);
    assert.ok(service.lines.some(({ message }) => message === 'Cleanup step failed'));
    assert.match(JSON.stringify(log), /\*\*\* and \*\*\*/);
    assert.doesNotMatch(shown, /canary/);
    for (const text of ['canary-of-the-request', 'canary-of-the-mirror']) {
      for (const form of [encode(text), encode(`me:${text}`)]) {
        assert.equal(shown.includes(form.slice(4, -4)), false, form);
      }
    }
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
      const logins = await openRegistryLogins(database, secrets, key, REGISTRY, () => undefined);
      assert.deepEqual(await logins.credentialFor(REGISTRY, soon()), wanted);
    }
  });
});
