import assert from 'node:assert/strict';
import { rm, truncate, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type BuildId, newBuildId, parseBuildId, type TenantId } from '../../src/core/ids.ts';
import { blobIndex, requireBlob } from '../../src/store/artifacts/blob-rows.ts';
import { openLocalStore } from '../../src/store/artifacts/local-store.ts';
import { requireOwnStore } from '../../src/store/artifacts/require-own-store.ts';
import { createTenantKeys } from '../../src/store/artifacts/tenant-keys.ts';
import type { Database } from '../../src/store/database.ts';
import { openDatabase } from '../../src/store/open-database.ts';
import { newMasterKeyText, parseMasterKeys } from '../../src/store/secrets/master-keys.ts';
import { createSealedSecrets } from '../../src/store/secrets/sealed-secrets.ts';
import { ageCondemned, makeTenant, nameBlobs, releaseBuild } from '../fixtures/artifact-rows.ts';
import {
  commitBytes,
  listAll,
  privateDirectory,
  readBlob,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { silentLog } from '../fixtures/databases.ts';
import { runCli } from '../fixtures/run-cli.ts';

const DAY = 24 * 60 * 60_000;

/** A service's directories with a database, a store and a tenant, and the command line on them. */
async function openService() {
  const home = await privateDirectory();
  const key = newMasterKeyText();
  const data = join(home.path, 'data');
  const rootfs = join(home.path, 'rootfs');
  const database = await openDatabase(
    { type: 'sqlite', directory: data },
    { signal, log: silentLog },
  );
  const secrets = createSealedSecrets(parseMasterKeys(key, 'a test'));
  const store = await openLocalStore({
    directory: rootfs,
    index: blobIndex(database),
    keys: createTenantKeys(database, secrets),
  });
  await requireOwnStore(database, store, { name: rootfs, signal });
  const env = {
    UNKEY_BUILDERD_DATABASE_DATA_DIR: data,
    UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: rootfs,
    UNKEY_BUILDERD_SCRATCH_DIR: join(home.path, 'scratch'),
    UNKEY_BUILDERD_MASTER_KEY: key,
  };
  return {
    database,
    store,
    rootfs,
    env,
    tenantId: await makeTenant(database),
    run: (...args: readonly string[]) => runCli(args, { env }),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** A build that was completed `ageMs` ago. */
async function insertBuild(
  database: Database,
  tenantId: TenantId,
  buildId: BuildId,
  ageMs: number,
): Promise<void> {
  const at = Date.now() - ageMs;
  await database.k
    .insertInto('builds')
    .values({
      id: buildId,
      tenant_id: tenantId,
      state: 'completed',
      priority: 0,
      name: '',
      labels: '{}',
      request: '{}',
      wire_config: null,
      trace_parent: null,
      created_by: 'a test',
      created_at: at,
      started_at: at,
      finished_at: at,
      not_before: at,
      timeout_ms: 1000,
      deadline_at: null,
      attempt: 1,
      owner: null,
      host: null,
      lease_until: null,
      id_slot: null,
      cancel_requested_at: null,
      memory_bytes: 1,
      disk_bytes: 1,
      error_code: null,
      error_message: null,
      source_reference: null,
      source_digest: null,
      image: null,
      metrics: null,
      isolation: null,
      deleted_at: null,
      updated_at: at,
    })
    .execute();
}

test('df says what each tenant keeps and what the disk has', async () => {
  await using service = await openService();
  const { database, store, tenantId, run } = service;
  const plain = await commitBytes(store, someBytes(5000), { tenantId });
  const sealed = await commitBytes(store, someBytes(7000), { tenantId, encrypt: true });
  await nameBlobs(database, tenantId, [plain, sealed]);
  const json = await run('df', '--json');
  assert.equal(json.code, 0, json.stderr);
  const { disk, tenants, backend } = JSON.parse(json.stdout);
  assert.equal(backend, 'local');
  assert.ok(disk.freeBytes > 0 && disk.totalBytes > disk.freeBytes);
  assert.equal(tenants.length, 1);
  assert.equal(tenants[0].tenant, 'acme');
  assert.equal(tenants[0].sizeBytes, 12_000);
  assert.equal(tenants[0].storedBytes, 5000 + sealed.storedBytes);
  const text = await run('df');
  assert.match(text.stdout, /^TENANT +BLOBS +SIZE/);
  assert.match(text.stdout, /^acme +2 +11\.7 KiB .* 1 encrypted$/m);
});

test('H15: the documentation says that nothing is removed by hand, and what is there instead', async () => {
  const text = await readFile(join(import.meta.dirname, '../../docs/storage.md'), 'utf8');
  const [, part = ''] = text.split('## Nothing is removed by hand');
  for (const command of ['df', 'gc', 'fsck']) {
    assert.ok(part.includes(`\`${command}`), command);
    assert.equal((await runCli([command, '--help'])).code, 0);
  }
  assert.match(part, /-mtime \+30 -exec rm.* are unsafe/);
});

test('H15: gc removes what is due, and --dry-run only says so', async () => {
  await using service = await openService();
  const { database, store, tenantId, run } = service;
  const kept = newBuildId();
  await insertBuild(database, tenantId, kept, DAY);
  await nameBlobs(
    database,
    tenantId,
    [await commitBytes(store, someBytes(100), { tenantId, buildId: kept })],
    kept,
  );
  // An id tells the time it was made: this one is as old as the build.
  const oldHex = (Date.now() - 40 * DAY).toString(16).padStart(12, '0');
  const old = parseBuildId(`${oldHex.slice(0, 8)}-${oldHex.slice(8)}${newBuildId().slice(13)}`);
  await insertBuild(database, tenantId, old, 40 * DAY);
  await nameBlobs(
    database,
    tenantId,
    [await commitBytes(store, someBytes(200), { tenantId, buildId: old })],
    old,
  );
  const released = await commitBytes(store, someBytes(300), { tenantId });
  await releaseBuild(database, tenantId, await nameBlobs(database, tenantId, [released]));
  await ageCondemned(database, DAY);
  const before = await listAll(store);
  const dry = await run('gc', '--dry-run', '--json');
  assert.equal(dry.code, 0, dry.stderr);
  const planned = JSON.parse(dry.stdout);
  assert.deepEqual([planned.expired, planned.removed, planned.removedBytes], [1, 1, 300]);
  assert.deepEqual(await listAll(store), before);
  const done = await run('gc');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /^Expired 1 builds beyond their retention$/m);
  assert.match(done.stdout, /^Removed 1 copies, 300 B$/m);
  assert.match(done.stdout, /^1 copies, 200 B, wait for the end of their /m);
  assert.equal((await listAll(store)).length, 2);
  const staged = await store.stagedAttempts({ signal });
  assert.deepEqual(staged, []);
  const short = await run('gc', '--grace', '1m');
  assert.equal(short.code, 2);
  assert.match(short.stderr, /want a duration of at least 1h/);
});

test('fsck finds damage with exit code 1, and --repair closes what is damaged', async () => {
  await using service = await openService();
  const { database, store, tenantId, rootfs, run } = service;
  const sound = await commitBytes(store, someBytes(5000), { tenantId, encrypt: true });
  const short = await commitBytes(store, someBytes(6000), { tenantId });
  await nameBlobs(database, tenantId, [sound, short]);
  const first = await run('fsck');
  assert.deepEqual([first.code, first.stdout], [0, 'Checked 2 blobs: all sound\n'], first.stderr);
  const hex = short.digest.slice(7);
  await truncate(
    join(rootfs, tenantId, 'sha256', hex.slice(0, 2), `${hex}.${short.generation}`),
    5,
  );
  const found = await run('fsck', '--json');
  assert.equal(found.code, 1);
  const report = JSON.parse(found.stdout);
  assert.equal(report.repaired, false);
  assert.deepEqual(report.health, { kind: 'healthy' });
  assert.deepEqual(
    report.findings.map((each: { kind: string; digest: string }) => [each.kind, each.digest]),
    [['corrupt', short.digest]],
  );
  const repaired = await run('fsck', '--quick', '--repair');
  assert.equal(repaired.code, 1);
  assert.match(repaired.stdout, /^corrupt +acme +sha256:.* 5 bytes are stored instead of 6000$/m);
  const row = await database.k
    .selectFrom('blobs')
    .select('state')
    .where('digest', '=', short.digest)
    .executeTakeFirst();
  assert.equal(row?.state, 'corrupt');
});

test('fsck refuses a store that holds nothing of what the database names', async () => {
  await using service = await openService();
  const { database, store, tenantId, rootfs, run } = service;
  await nameBlobs(database, tenantId, [await commitBytes(store, someBytes(50), { tenantId })]);
  await rm(join(rootfs, tenantId), { recursive: true });
  const result = await run('fsck', '--repair');
  assert.equal(result.code, 1);
  assert.match(result.stderr, /is it the right one, and mounted/);
  const rows = await database.k.selectFrom('blobs').select('state').execute();
  assert.deepEqual(rows, [{ state: 'present' }]);
});

test('gc and fsck refuse the store of another database, until it is adopted', async () => {
  await using service = await openService();
  await using other = await openService();
  const { database, store, tenantId, rootfs } = service;
  await nameBlobs(database, tenantId, [await commitBytes(store, someBytes(50), { tenantId })]);
  const wrong = { UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: rootfs };
  for (const args of [['gc'], ['gc', '--dry-run'], ['fsck']]) {
    const result = await runCli(args, { env: { ...other.env, ...wrong } });
    assert.equal(result.code, 2, args.join(' '));
    assert.match(result.stderr, /it belongs to another database/);
    assert.match(result.stderr, /fsck --adopt-store/);
  }
  assert.equal((await listAll(store)).length, 1);
  const adopted = await runCli(['fsck', '--adopt-store'], { env: { ...other.env, ...wrong } });
  assert.match(adopted.stdout, /unnamed/);
  const dry = await runCli(['gc', '--dry-run'], { env: { ...other.env, ...wrong } });
  assert.equal(dry.code, 0, dry.stderr);
  assert.equal((await service.run('gc')).code, 2);
});

test('keys rotates, stores again and exports what age decrypts with', async () => {
  await using service = await openService();
  const { database, store, tenantId, run } = service;
  const bytes = someBytes(9000);
  const blob = await commitBytes(store, bytes, { tenantId, encrypt: true });
  await nameBlobs(database, tenantId, [blob]);
  const rotated = await run('keys', 'rotate', 'acme');
  assert.equal(rotated.code, 0, rotated.stderr);
  const again = await run('keys', 'reencrypt', 'acme');
  assert.equal(again.code, 0, again.stderr);
  assert.equal(again.stdout, 'Stored 1 artifacts again, 8.8 KiB\n');
  const exported = await run('keys', 'export', 'acme');
  const identities = exported.stdout
    .split('\n')
    .filter((line) => line.startsWith('AGE-SECRET-KEY-1'));
  assert.equal(identities.length, 2);
  const row = await requireBlob(database, tenantId, blob.digest);
  assert.notEqual(row.dataKeyId, blob.dataKeyId);
  assert.match(exported.stdout, new RegExp(`^# key ${row.dataKeyId}$`, 'm'));
  assert.ok((await readBlob(store, tenantId, row)).equals(bytes));
  const unknown = await run('keys', 'export', 'nobody');
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /Cannot find tenant "nobody"/);
});
