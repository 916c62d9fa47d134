import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sql } from 'kysely';
import { isBuilderdError } from '../../src/core/errors.ts';
import { newBuildId } from '../../src/core/ids.ts';
import { parseBuildSpec } from '../../src/builds/parse-build-spec.ts';
import { parseBuildSecrets, secretTexts } from '../../src/builds/build-secrets.ts';
import { CALLER, call, IMAGE, serviceOn } from '../fixtures/build-service.ts';
import { forEachDatabase, openTestSqlite } from '../fixtures/databases.ts';

const SECRETS = {
  username: 'robot',
  password: 'canary-Pa55word-9f1c',
  token: 'canary-T0ken-77aa-e1',
};
const HOSTILE = [
  "'; drop table builds; --",
  '" or 1=1 --',
  '%',
  '_',
  '$."x"',
  '../../etc/passwd',
  'cgroup.procs',
  'a-b-c',
  '🧨'.repeat(60),
  '__proto__',
  '\u202egnp.exe',
];

forEachDatabase((name, openTestDatabase) => {
  test('H5: secrets of a request are in no table, no answer and no fault, and open only for their build', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database, secrets } = harness;
    const tenant = await harness.tenant('acme', { maxQueuedBuilds: 2 });
    const spec = { source: { image: { reference: 'debian:12', auth: SECRETS } } };
    const options = { ...call(), idempotencyKey: 'canary-test' };
    const { build } = await service.create(CALLER, tenant, spec, options);
    await service.create(CALLER, tenant, spec, options);
    const answers: unknown[] = [
      build,
      await service.get(tenant, build.id, call()),
      await service.list(tenant, { limit: 10 }, call()),
      await service.create(CALLER, tenant, { ...spec, name: 'other' }, options).catch(shown),
      await service.create(CALLER, tenant, { ...spec, name: 'second' }, call()),
      await service.create(CALLER, tenant, spec, call()).catch(shown),
      await service
        .create(
          CALLER,
          tenant,
          { source: { image: { reference: `u:${SECRETS.password}@h/a`, auth: SECRETS } } },
          call(),
        )
        .catch(shown),
      await service.cancel(CALLER, tenant, build.id, call()),
    ];
    assert.ok(!JSON.stringify(answers).includes('canary-'), JSON.stringify(answers));

    const second = await service.list(tenant, { limit: 1 }, call());
    const id = second.builds[0]?.id ?? newBuildId();
    const row = await database.k
      .selectFrom('build_secrets')
      .selectAll()
      .where('build_id', '=', id)
      .executeTakeFirstOrThrow();
    const place = { table: 'build_secrets', tenantId: tenant.id, rowId: id } as const;
    const plain = parseBuildSecrets(secrets.open(place, row.sealed).toString('utf8'));
    assert.deepEqual(plain, SECRETS);
    assert.deepEqual(secretTexts(plain), [SECRETS.password, SECRETS.token]);
    assert.throws(() => secrets.open({ ...place, rowId: build.id }, row.sealed));

    const tables = await database.k.introspection.getTables();
    assert.ok(tables.length > 15);
    for (const table of tables) {
      const { rows } = await sql`select * from ${sql.table(table.name)}`.execute(database.k);
      const text = JSON.stringify(rows, (_key, value: unknown) =>
        value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : value,
      );
      for (const canary of [SECRETS.password, SECRETS.token]) {
        assert.ok(!text.includes(canary), `${name}: ${table.name}`);
        assert.ok(!text.includes(Buffer.from(canary).toString('base64').slice(0, 20)), table.name);
      }
    }
    const left = await database.k.selectFrom('build_secrets').select('build_id').execute();
    assert.deepEqual(
      left.map((each) => each.build_id),
      [id],
      'a cancelled build keeps no secrets',
    );
  });

  test('H1: hostile texts in names, labels, filters and keys are data', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service } = harness;
    const tenant = await harness.tenant('acme');
    for (const text of HOSTILE) {
      const spec = { ...IMAGE, name: text, labels: { 'a/b.c_d-e': text } };
      const { build } = await service.create(CALLER, tenant, spec, call());
      assert.equal(build.name, text);
      const page = await service.list(tenant, { limit: 5, labels: { 'a/b.c_d-e': text } }, call());
      assert.deepEqual(
        page.builds.map(({ id }) => id),
        [build.id],
      );
      assert.equal(page.total, 1);
    }
    for (const key of ['a"b', "a'b", '$', 'a b', '', 'x'.repeat(129)]) {
      await assert.rejects(
        service.list(tenant, { limit: 5, labels: { [key]: '1' } }, call()),
        invalid,
      );
    }
  });

  test('NUL and half characters are refused before the database sees them', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme');
    const { build } = await service.create(CALLER, tenant, IMAGE, call());
    for (const bad of ['a\0b', '\ud83d', 'x\udc00y']) {
      for (const spec of [
        { ...IMAGE, name: bad },
        { ...IMAGE, labels: { key: bad } },
        { source: { image: { reference: bad } } },
        { source: { image: { reference: 'debian', auth: { password: bad } } } },
      ]) {
        await assert.rejects(service.create(CALLER, tenant, spec, call()), invalid);
      }
      for (const rest of [{ idempotencyKey: bad }, { wireConfig: JSON.stringify('x') + bad }]) {
        await assert.rejects(
          service.create(CALLER, tenant, IMAGE, { ...call(), ...rest }),
          invalid,
        );
      }
      const traced = await service.create(CALLER, tenant, IMAGE, { ...call(), traceParent: bad });
      assert.equal(traced.created, true);
      await assert.rejects(
        service.list(tenant, { limit: 5, labels: { key: bad } }, call()),
        invalid,
      );
      await assert.rejects(service.openArtifact(tenant, build.id, bad, call()), (reason) =>
        isBuilderdError(reason, 'api.not_found'),
      );
    }
    const rows = await database.k.selectFrom('builds').select('trace_parent').execute();
    assert.deepEqual(new Set(rows.map((row) => row.trace_parent)), new Set([null]));
  });

  test('a cancel that races with the end of a build changes a build that is over in nothing', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme');
    for (let round = 0; round < 10; round += 1) {
      const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
      await harness.hold(id);
      await Promise.all([
        service.cancel(CALLER, tenant, id, call()),
        database.k
          .updateTable('builds')
          .set({ state: 'completed', owner: null, finished_at: database.now })
          .where('id', '=', id)
          .where('state', '=', 'pulling')
          .execute(),
        service.cancel(CALLER, tenant, id, call()),
      ]);
      assert.equal((await service.get(tenant, id, call())).state, 'completed');
    }
  });

  test('a cancel that races with a claim either ends the build or reaches its executor', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const tenant = await harness.tenant('acme');
    for (let round = 0; round < 10; round += 1) {
      const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
      const [claim] = await Promise.all([
        database.k
          .updateTable('builds')
          .set({ state: 'pulling', owner: 'e', attempt: 1 })
          .where('id', '=', id)
          .where('state', '=', 'pending')
          .executeTakeFirst(),
        service.cancel(CALLER, tenant, id, call()),
      ]);
      const after = await service.get(tenant, id, call());
      if (claim.numUpdatedRows === 1n)
        assert.ok(after.state === 'pulling' && after.cancelRequested);
      else assert.equal(after.state, 'cancelled');
    }
  });
});

test('parseBuildSpec() takes the fields of the schema and no others', () => {
  for (const extra of [
    'state',
    'rootfs_path',
    'isolation',
    'tenant_id',
    'id',
    '__proto__',
    'suggestedAssetId',
  ]) {
    const raw: unknown = JSON.parse(
      `{"source":{"image":{"reference":"debian"}},${JSON.stringify(extra)}:"x"}`,
    );
    assert.throws(() => parseBuildSpec(raw), invalid, extra);
  }
  for (const raw of [
    null,
    [],
    {},
    { source: {} },
    { source: { image: { reference: 'a' }, git: { url: 'b' } } },
    { source: { image: { reference: 'a'.repeat(2049) } } },
    { ...IMAGE, priority: 1e9 },
    { ...IMAGE, timeoutSeconds: 0.5 },
    { ...IMAGE, labels: { 'bad key': 'x' } },
    { ...IMAGE, target: { formats: ['ext4', 'ext4'] } },
  ]) {
    assert.throws(() => parseBuildSpec(raw), invalid, JSON.stringify(raw));
  }
});

test('parseBuildSpec() never shows a value in its fault', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 4, unit: fc.constantFrom('C', 'Q', '7') }), (canary) => {
      for (const raw of [
        { source: { image: { reference: 'a', auth: { password: [canary] } } } },
        { source: { image: { reference: 'a', auth: { password: `\0${canary}` } } } },
        { source: { image: { reference: 'a', auth: canary } } },
        { ...IMAGE, platform: { canary } },
      ]) {
        assert.throws(
          () => parseBuildSpec(raw),
          (reason) =>
            invalid(reason) && reason instanceof Error && !reason.message.includes(canary),
        );
      }
    }),
  );
});

test('G36: 1,000 creates of a caller that went away leave no more builds than the queue takes', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service } = harness;
  const tenant = await harness.tenant('acme', { maxQueuedBuilds: 20 });
  const gone = new AbortController();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 1000 }, async (_, n) => {
      if (n === 500) gone.abort();
      await service.create(CALLER, tenant, IMAGE, { signal: gone.signal });
    }),
  );
  const created = outcomes.filter(({ status }) => status === 'fulfilled').length;
  const { total } = await service.list(tenant, { limit: 1 }, call());
  assert.ok(total <= 20 && created <= total, `${created} answered, ${total} kept`);
});

function invalid(reason: unknown): boolean {
  return isBuilderdError(reason, 'api.invalid') || isBuilderdError(reason, 'source.invalid');
}

function shown(reason: unknown): unknown {
  if (!isBuilderdError(reason)) return reason;
  return {
    code: reason.code,
    message: reason.message,
    stack: reason.stack,
    details: reason.details,
  };
}
