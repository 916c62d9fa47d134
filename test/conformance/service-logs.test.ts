import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KyselyPlugin } from 'kysely';
import { exportLog } from '../../src/builds/logs/export-log.ts';
import type { NewLogEntry } from '../../src/builds/logs/log-lines.ts';
import { LOG_LIMITS } from '../../src/builds/logs/log-limits.ts';
import { openLogWriter } from '../../src/builds/logs/log-writer.ts';
import type { BuildService } from '../../src/builds/service/build-service.ts';
import type { TenantRef } from '../../src/builds/service/caller.ts';
import type { LogEntry } from '../../src/builds/service/views.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import type { BuildId } from '../../src/core/ids.ts';
import { insertArtifacts } from '../../src/store/artifacts/artifact-rows.ts';
import type { Database } from '../../src/store/database.ts';
import { appendSegment } from '../../src/store/logs/append-segment.ts';
import { trimSegments } from '../../src/store/logs/trim-segments.ts';
import { CALLER, call, IMAGE, type ServiceHarness, serviceOn } from '../fixtures/build-service.ts';
import { forEachDatabase } from '../fixtures/databases.ts';

const say = (message: string): NewLogEntry => ({
  time: 5,
  level: 'info',
  component: 'builder',
  message,
});

forEachDatabase((_name, openTestDatabase) => {
  test('the border between attempts has the time at which the later one began', async (t) => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const { tenant, id } = await newBuild(harness);
    const real = Date.now();
    for (const attempt of [1, 2]) {
      const fence = await harness.hold(id, attempt);
      const clock = t.mock.method(Date, 'now', () => real + attempt * 1000);
      const writer = openLogWriter(database, fence, { mask: [] });
      // The log is written a while after it was begun.
      clock.mock.mockImplementation(() => real + attempt * 1000 + 500);
      writer.write(say(`attempt ${attempt}`));
      await writer.close();
      clock.mock.restore();
    }
    const { entries } = await service.readLog(tenant, id, { ...call(), from: 0, limit: 9 });
    const border = entries.find(({ message }) => message === 'Attempt 2 begins');
    assert.equal(border?.time, real + 2000);
  });

  test('entries of all attempts are numbered without gaps, with a border between attempts', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const { tenant, id } = await newBuild(harness);
    for (const attempt of [1, 2]) {
      const fence = await harness.hold(id, attempt);
      const writer = openLogWriter(database, fence, { mask: [], flushMs: 1, flushBytes: 100 });
      for (let n = 0; n < 20; n += 1) writer.write(say(`attempt ${attempt} line ${n}`));
      await writer.close();
      // Said after the end was announced: the same attempt, so no second border.
      const later = openLogWriter(database, fence, { mask: [] });
      later.write(say(`attempt ${attempt} late`));
      await later.close();
    }
    const entries = await readAll(service, tenant, id, 7);
    assert.deepEqual(
      entries.map(({ n }) => n),
      entries.keys().toArray(),
    );
    const lines = (attempt: number): string[] =>
      Array.from({ length: 20 }, (_, n) => `attempt ${attempt} line ${n}`);
    assert.deepEqual(
      entries.map(({ message }) => message),
      [...lines(1), 'attempt 1 late', 'Attempt 2 begins', ...lines(2), 'attempt 2 late'],
    );
    const middle = await service.readLog(tenant, id, { ...call(), from: 30, limit: 2 });
    assert.deepEqual(middle, { entries: entries.slice(30, 32), ended: false });
    await harness.end(id);
    const last = await service.readLog(tenant, id, { ...call(), from: 42, limit: 100 });
    assert.deepEqual(last, { entries: entries.slice(42), ended: true });
    const beyond = await service.readLog(tenant, id, { ...call(), from: 1000, limit: 100 });
    assert.deepEqual(beyond, { entries: [], ended: true });
  });

  test('a writer that lost its claim writes nothing more, and says so when it is closed', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { database } = harness;
    const { id } = await newBuild(harness);
    const first = await harness.hold(id, 1);
    const writer = openLogWriter(database, first, { mask: [] });
    const second = await harness.hold(id, 2);
    writer.write(say('from the one that was taken over'));
    await assert.rejects(writer.close(), (reason) => isBuilderdError(reason, 'build.lost'));
    await assert.rejects(writer.close(), (reason) => isBuilderdError(reason, 'build.lost'));
    const segment = { firstEntry: 0, entries: 1, data: Buffer.from('{}\n'), droppedBytes: 0 };
    for (const fence of [first, { ...second, attempt: 1 }, { ...second, owner: 'else' }]) {
      await assert.rejects(
        database.transaction((tx) => appendSegment(tx, fence, segment), call()),
        (reason) => isBuilderdError(reason, 'build.lost'),
      );
    }
    assert.equal((await database.k.selectFrom('log_segments').selectAll().execute()).length, 0);
  });

  test('appending a segment again, after an unknown outcome, changes nothing', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { database } = harness;
    const { id } = await newBuild(harness);
    const fence = await harness.hold(id);
    const segment = { firstEntry: 0, entries: 2, data: Buffer.from('{}\n{}\n'), droppedBytes: 3 };
    for (let times = 0; times < 3; times += 1) {
      await database.transaction((tx) => appendSegment(tx, fence, segment), call());
    }
    const row = await database.k.selectFrom('builds').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual([row.log_entries, row.log_bytes, row.log_dropped_bytes], [2, 6, 3]);
    await assert.rejects(
      database.transaction((tx) => appendSegment(tx, fence, { ...segment, firstEntry: 1 }), call()),
      (reason) => isBuilderdError(reason, 'internal'),
    );
  });

  test('a log is read from the artifact store once it was moved there, from any entry on', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const { tenant, id } = await newBuild(harness);
    const writer = openLogWriter(database, await harness.hold(id), {
      mask: [],
      limits: { ...LOG_LIMITS, bytesPerSecond: 1e9, queueBytes: 1e9 },
    });
    for (let n = 0; n < 3500; n += 1) writer.write(say(`line ${n} ünïcode`));
    await writer.close();
    const before = await readAll(service, tenant, id, 1000);
    await archive(harness, tenant, id);
    await harness.end(id);
    assert.equal((await database.k.selectFrom('log_segments').selectAll().execute()).length, 0);
    assert.deepEqual(await readAll(service, tenant, id, 1000), before);
    for (const from of [0, 1, 999, 1000, 1001, 2500, 3499]) {
      const { entries } = await service.readLog(tenant, id, { ...call(), from, limit: 3 });
      assert.deepEqual(entries, before.slice(from, from + 3));
    }
    const followed = await collect(service.followLog(tenant, id, { ...call(), from: 3000 }));
    assert.deepEqual(followed, before.slice(3000));
    harness.blobs.bytes.clear();
    await assert.rejects(service.readLog(tenant, id, { ...call(), from: 0, limit: 1 }), (reason) =>
      isBuilderdError(reason, 'artifact.missing'),
    );
  });

  test('followers get every entry once, as it comes, and end with the build', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const { tenant, id } = await newBuild(harness);
    const fence = await harness.hold(id);
    const writer = openLogWriter(database, fence, { mask: [], flushMs: 5 });
    writer.write(say('before anybody follows'));
    const following = [0, 0, 1].map((from) =>
      collect(service.followLog(tenant, id, { ...call(), from })),
    );
    for (let n = 1; n < 50; n += 1) {
      writer.write(say(`line ${n}`));
      if (n % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await writer.close();
    await harness.end(id);
    database.ring('logs');
    const want = await readAll(service, tenant, id, 1000);
    assert.equal(want.length, 50);
    assert.deepEqual(await Promise.all(following), [want, want, want.slice(1)]);
  });

  test('a follower goes on in another process where it left off', async () => {
    await using opened = await openTestDatabase();
    await using harness = serviceOn(opened.database);
    const { service, database } = harness;
    const { tenant, id } = await newBuild(harness);
    const writer = openLogWriter(database, await harness.hold(id), { mask: [], flushMs: 1 });
    for (let n = 0; n < 10; n += 1) writer.write(say(`line ${n}`));
    const first = service.followLog(tenant, id, { ...call(), from: 0 })[Symbol.asyncIterator]();
    const { value } = await first.next();
    await first.return?.();
    const seen: LogEntry[] = [...(value ?? [])];
    await using other = serviceOn(await opened.open());
    const rest = collect(other.service.followLog(tenant, id, { ...call(), from: seen.length }));
    writer.write(say('said after it moved'));
    await writer.close();
    await harness.end(id);
    seen.push(...(await rest));
    assert.deepEqual(
      seen.map(({ n }) => n),
      seen.keys().toArray(),
    );
    assert.equal(seen.at(-1)?.message, 'said after it moved');
  });

  test('500 followers of one build share its reading', async () => {
    await using opened = await openTestDatabase();
    const counted = countReads(opened.database);
    await using harness = serviceOn(counted.database, {
      followers: { perBuild: 500, perTenant: 500, perProcess: 500 },
    });
    const { service, database } = harness;
    const { tenant, id } = await newBuild(harness);
    const writer = openLogWriter(opened.database, await harness.hold(id), {
      mask: [],
      flushMs: 20,
    });
    const stop = new AbortController();
    const slow = Array.from({ length: 50 }, () =>
      service.followLog(tenant, id, { signal: stop.signal, from: 0 }),
    );
    const following = Array.from({ length: 450 }, () =>
      collect(service.followLog(tenant, id, { ...call(), from: 0 })),
    );
    for (let n = 0; n < 100; n += 1) {
      writer.write(say(`line ${n}`));
      if (n % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 25));
    }
    await writer.close();
    await harness.end(id);
    database.ring('logs');
    const want = await readAll(service, tenant, id, 1000);
    for (const got of await Promise.all(following)) assert.deepEqual(got, want);
    const segments = await database.k.selectFrom('log_segments').select('entries').execute();
    // Each flush is read once for all; a few more for those that joined in the middle.
    assert.ok(counted.segmentReads() <= segments.length + 10, `${counted.segmentReads()} reads`);
    stop.abort();
    assert.equal((await collect(slow[0] ?? [])).length, 0);
  });
});

async function newBuild(harness: ServiceHarness): Promise<{ tenant: TenantRef; id: BuildId }> {
  const tenant = await harness.tenant('acme');
  const { build } = await harness.service.create(CALLER, tenant, IMAGE, call());
  return { tenant, id: build.id };
}

async function readAll(
  service: BuildService,
  tenant: TenantRef,
  id: BuildId,
  limit: number,
): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for (;;) {
    const { entries } = await service.readLog(tenant, id, { ...call(), from: all.length, limit });
    if (entries.length === 0) return all;
    all.push(...entries);
  }
}

async function collect(
  batches: AsyncIterable<readonly LogEntry[]> | Iterable<readonly LogEntry[]>,
): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for await (const batch of batches) all.push(...batch);
  return all;
}

/** What an executor does at the end of a build. */
async function archive(
  { database, blobs }: ServiceHarness,
  tenant: TenantRef,
  id: BuildId,
): Promise<void> {
  const pieces: Buffer[] = [];
  for await (const piece of exportLog(database, id)) pieces.push(piece);
  const bytes = Buffer.concat(pieces);
  const blob = blobs.put(tenant.id, bytes);
  await database.transaction(async (tx) => {
    const log = { name: 'build.log', format: 'log', mediaType: 'application/x-ndjson', blob };
    await insertArtifacts(tx, { tenantId: tenant.id, buildId: id, artifacts: [log] });
    await trimSegments(tx, id);
  }, call());
}

/** The same database, counting what is read of log segments. */
function countReads(database: Database): { database: Database; segmentReads: () => number } {
  let reads = 0;
  const counter: KyselyPlugin = {
    transformQuery({ node }) {
      if (node.kind === 'SelectQueryNode' && JSON.stringify(node.from).includes('log_segments')) {
        reads += 1;
      }
      return node;
    },
    transformResult: async ({ result }) => await Promise.resolve(result),
  };
  return {
    database: { ...database, k: database.k.withPlugin(counter) },
    segmentReads: () => reads,
  };
}
