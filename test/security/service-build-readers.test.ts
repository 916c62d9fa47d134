import assert from 'node:assert/strict';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import fc from 'fast-check';
import { openLogWriter } from '../../src/builds/logs/log-writer.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { insertArtifacts } from '../../src/store/artifacts/artifact-rows.ts';
import { CALLER, call, IMAGE, serviceOn } from '../fixtures/build-service.ts';
import { openTestSqlite } from '../fixtures/databases.ts';

const hasCode =
  (code: string) =>
  (reason: unknown): boolean =>
    isBuilderdError(reason) && reason.code === code;

test('the name of an artifact is looked up, never walked', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service, database, blobs } = harness;
  const tenant = await harness.tenant('acme');
  const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
  const blob = blobs.put(tenant.id, Buffer.from('the bytes'));
  const artifact = { name: 'rootfs.tar', format: 'tar', mediaType: 'application/x-tar', blob };
  await database.transaction(
    (tx) => insertArtifacts(tx, { tenantId: tenant.id, buildId: id, artifacts: [artifact] }),
    call(),
  );
  const found = await service.openArtifact(tenant, id, 'rootfs.tar', call());
  assert.equal((await buffer(found.body)).toString(), 'the bytes');
  for (const name of [
    '../rootfs.tar',
    '..%2f..%2fetc/passwd',
    '/etc/passwd',
    'rootfs.tar/',
    './rootfs.tar',
    'ROOTFS.TAR',
    'rootfs.tar\\',
    '%',
    'rootfs_tar',
    blob.digest,
    '',
    'x'.repeat(100_000),
  ]) {
    await assert.rejects(
      service.openArtifact(tenant, id, name, call()),
      hasCode('api.not_found'),
      name,
    );
  }
  assert.equal(blobs.opened, 1);
});

test('ranges outside the artifact are refused before anything is opened', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service, database, blobs } = harness;
  const tenant = await harness.tenant('acme');
  const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
  const blob = blobs.put(tenant.id, Buffer.from('0123456789'));
  const artifact = { name: 'a', format: 'tar', mediaType: 'application/x-tar', blob };
  await database.transaction(
    (tx) => insertArtifacts(tx, { tenantId: tenant.id, buildId: id, artifacts: [artifact] }),
    call(),
  );
  for (const [start, end] of [
    [-1, 5],
    [5, 4],
    [0, 10],
    [9e99, 9e99],
    [0.5, 1],
    [Number.NaN, 1],
    [0, Number.POSITIVE_INFINITY],
  ] as const) {
    const options = { ...call(), range: { start, end } };
    await assert.rejects(service.openArtifact(tenant, id, 'a', options), hasCode('api.invalid'));
  }
  assert.equal(blobs.opened, 0);
  const part = await service.openArtifact(tenant, id, 'a', {
    ...call(),
    range: { start: 3, end: 5 },
  });
  assert.equal((await buffer(part.body)).toString(), '345');
  await database.k.updateTable('blobs').set({ state: 'corrupt' }).execute();
  await assert.rejects(service.openArtifact(tenant, id, 'a', call()), hasCode('artifact.corrupt'));
});

test('forged, foreign and oversized pages are refused', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service } = harness;
  const acme = await harness.tenant('acme');
  const umbrella = await harness.tenant('umbrella');
  for (const tenant of [acme, acme, umbrella, umbrella]) {
    await service.create(CALLER, tenant, IMAGE, call());
  }
  const { nextCursor = '' } = await service.list(acme, { limit: 1 }, call());
  assert.notEqual(nextCursor, '');
  for (const [tenant, query] of [
    [umbrella, { limit: 1, cursor: nextCursor }],
    [acme, { limit: 1, cursor: nextCursor, states: ['pending'] as const }],
    [acme, { limit: 1, cursor: nextCursor, labels: { a: 'b' } }],
    [acme, { limit: 1, cursor: `${nextCursor}A` }],
    [acme, { limit: 1, cursor: '' }],
    [acme, { limit: 1e9 }],
    [acme, { limit: 501 }],
    [acme, { limit: 0 }],
    [acme, { limit: 0.5 }],
    [acme, { limit: Number.NaN }],
  ] as const) {
    await assert.rejects(service.list(tenant, query, call()), hasCode('api.invalid'));
  }
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1 }), async (cursor) => {
      await assert.rejects(
        service.list(acme, { limit: 1, cursor }, call()),
        hasCode('api.invalid'),
      );
    }),
    { numRuns: 50 },
  );
});

test('followers beyond the limits are refused, and leave their place when they go', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database, {
    followers: { perBuild: 2, perTenant: 3, perProcess: 4 },
  });
  const { service } = harness;
  const acme = await harness.tenant('acme');
  const umbrella = await harness.tenant('umbrella');
  const ids = await Promise.all(
    [acme, acme, umbrella, umbrella].map(
      async (tenant) => (await service.create(CALLER, tenant, IMAGE, call())).build.id,
    ),
  );
  const [first, second, third] = ids;
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  const stops: AbortController[] = [];
  const follow = (tenant: typeof acme, id: typeof first) => {
    const stop = new AbortController();
    const followed = service.followLog(tenant, id, { from: 0, signal: stop.signal });
    stops.push(stop);
    return followed;
  };
  const tooMany = hasCode('api.too_many');
  follow(acme, first);
  follow(acme, first);
  assert.throws(() => follow(acme, first), tooMany);
  follow(acme, second);
  assert.throws(() => follow(acme, second), tooMany);
  follow(umbrella, third);
  assert.throws(() => follow(umbrella, third), tooMany);
  stops[0]?.abort();
  stops[0]?.abort();
  follow(acme, first);
  assert.throws(() => follow(acme, first), tooMany);
  // One that reads to the end gives its place back by itself.
  await harness.end(first);
  for (const stop of stops) stop.abort();
  for (let round = 0; round < 10; round += 1) {
    for await (const batch of service.followLog(acme, first, { ...call(), from: 0 })) {
      assert.fail(`${batch.length} entries in an empty log`);
    }
  }
});

test('following what is not there, or another tenant’s, is answered alike', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service } = harness;
  const acme = await harness.tenant('acme');
  const umbrella = await harness.tenant('umbrella');
  const { id } = (await service.create(CALLER, acme, IMAGE, call())).build;
  const followed = service.followLog(umbrella, id, { ...call(), from: 0 });
  await assert.rejects(followed[Symbol.asyncIterator]().next(), hasCode('api.not_found'));
  for (const from of [-1, 0.5, Number.NaN, 2 ** 60]) {
    assert.throws(() => service.followLog(acme, id, { ...call(), from }), hasCode('api.invalid'));
    await assert.rejects(
      service.readLog(acme, id, { ...call(), from, limit: 1 }),
      hasCode('api.invalid'),
    );
  }
});

test('followers that never read keep neither entries nor others waiting', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service, database } = harness;
  const tenant = await harness.tenant('acme');
  const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
  const stop = new AbortController();
  const lazy = Array.from({ length: 15 }, () =>
    service.followLog(tenant, id, { from: 0, signal: stop.signal })[Symbol.asyncIterator](),
  );
  const writer = openLogWriter(database, await harness.hold(id), { mask: [], flushMs: 1 });
  const message = 'x'.repeat(10_000);
  for (let n = 0; n < 90; n += 1)
    writer.write({ time: 1, level: 'info', component: 'builder', message });
  await writer.close();
  await harness.end(id);
  let seen = 0;
  for await (const batch of service.followLog(tenant, id, { ...call(), from: 0 }))
    seen += batch.length;
  assert.equal(seen, 90);
  const [first] = lazy;
  const late = await first?.next();
  assert.equal(late?.value?.[0]?.n, 0);
  stop.abort();
  assert.deepEqual(await first?.next(), { done: true, value: undefined });
});

test('a build log shows no secret and obeys no terminal, whoever reads it', async () => {
  await using opened = await openTestSqlite();
  await using harness = serviceOn(opened.database);
  const { service, database } = harness;
  const tenant = await harness.tenant('acme');
  const { id } = (await service.create(CALLER, tenant, IMAGE, call())).build;
  const secret = 'canary-Secret-0451-xyz';
  const writer = openLogWriter(database, await harness.hold(id), { mask: [secret] });
  const say = (message: string): void =>
    writer.write({ time: 1, level: 'info', component: 'builder', message });
  say(`login with ${secret}`);
  say(`Authorization: Basic ${Buffer.from(`robot:${secret}`).toString('base64')}`);
  say(`split canary-Sec`);
  say('ret-0451-xyz over two');
  say(`https://x/?t=${encodeURIComponent(secret)}\u001b]0;owned\u0007\u001b[2J\r\nsecond`);
  writer.write({
    time: 1,
    level: 'warn',
    component: `c${secret}`,
    message: 'm',
    metadata: { [secret]: secret },
  });
  await writer.close();
  const { entries } = await service.readLog(tenant, id, { ...call(), from: 0, limit: 100 });
  const text = JSON.stringify(entries);
  const [row] = await database.k.selectFrom('log_segments').select('data').execute();
  for (const shown of [text, Buffer.from(row?.data ?? []).toString('latin1')]) {
    for (const part of [
      secret,
      'Sec',
      'ret-0451',
      '0451',
      Buffer.from(secret).toString('base64').slice(0, 16),
    ]) {
      assert.ok(!shown.includes(part), `${part} in ${shown}`);
    }
    assert.ok(!shown.includes('\\u001b') && !shown.includes('\u001b'), shown);
  }
  assert.equal(entries.length, 7);
});
