import assert from 'node:assert/strict';
import { chmod, link, lstat, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import {
  databaseFile,
  networkFileSystem,
  prepareDataDirectory,
  prepareDataFile,
} from '../../src/store/data-directory.ts';
import { openSqliteFile } from '../../src/store/sqlite-driver.ts';

const signal = AbortSignal.timeout(60_000);

async function inTempDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'bd-data-'));
  try {
    await work(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
}

const modeOf = async (file: string): Promise<string> =>
  ((await lstat(file)).mode & 0o777).toString(8);

test('prepareDataDirectory() makes a private directory, with its parents, and again nothing', async () => {
  await inTempDir(async (dir) => {
    const data = path.join(dir, 'a', 'b', 'data');
    await prepareDataDirectory(data);
    await prepareDataDirectory(data);
    assert.deepEqual([await modeOf(data), await modeOf(path.dirname(data))], ['700', '755']);
    await prepareDataFile(databaseFile(data), { create: true });
    await prepareDataFile(databaseFile(data), { create: true });
    assert.equal(await modeOf(databaseFile(data)), '600');
  });
});

test('H13: prepareDataDirectory() refuses what others may read, links and files', async () => {
  await inTempDir(async (dir) => {
    const open = path.join(dir, 'open');
    await mkdir(open, { mode: 0o755 });
    await chmod(open, 0o755);
    await assert.rejects(prepareDataDirectory(open), {
      code: 'host.permission',
      message: `Cannot use "${open}": others may reach it (mode 0755); run chmod 0700 "${open}"`,
    });
    const real = path.join(dir, 'real');
    await prepareDataDirectory(real);
    await symlink(real, path.join(dir, 'link'));
    await writeFile(path.join(dir, 'file'), '');
    for (const name of ['link', 'file']) {
      await assert.rejects(prepareDataDirectory(path.join(dir, name)), {
        code: 'host.permission',
        message: /a symlink or no directory/,
      });
    }
  });
});

test('H19: prepareDataDirectory() ends where no directory can be made', {
  timeout: 20_000,
}, async () => {
  await assert.rejects(prepareDataDirectory('/proc/none/deep/data'), { code: 'host.permission' });
  await assert.rejects(prepareDataDirectory('/dev/null/data'), { code: 'host.permission' });
});

test('H13: prepareDataFile() refuses links, files with two names and files that others may read', async () => {
  await inTempDir(async (dir) => {
    const create = { create: true };
    const file = path.join(dir, 'builderd.db');
    await assert.rejects(prepareDataFile(file, { create: false }), { code: 'database.schema' });
    await writeFile(path.join(dir, 'other'), 'x', { mode: 0o600 });
    await symlink(path.join(dir, 'other'), file);
    await assert.rejects(prepareDataFile(file, create), { message: /it is a symlink/ });
    await rm(file);
    await link(path.join(dir, 'other'), file);
    await assert.rejects(prepareDataFile(file, create), { message: /not a plain file/ });
    await rm(file);
    await writeFile(file, '');
    await chmod(file, 0o644);
    await assert.rejects(prepareDataFile(file, create), { message: /mode 0644.*chmod 0600/ });
    await rm(file);
    await mkdir(file);
    await assert.rejects(prepareDataFile(file, create), { message: /not a plain file/ });
  });
});

test('H13: networkFileSystem() knows where two hosts could destroy a database', () => {
  const magics: readonly (readonly [type: number, want: string | undefined])[] = [
    [0x6969, 'NFS'],
    [0xff534d42, 'CIFS'],
    [0xff534d42 | 0, 'CIFS'],
    [0xfe534d42 | 0, 'SMB'],
    [0x01021997, '9P'],
    [0x00c36400, 'Ceph'],
    [0xef53, undefined],
    [0x58465342, undefined],
    [0x9123683e | 0, undefined],
    [0x01021994, undefined],
  ];
  for (const [type, want] of magics) assert.equal(networkFileSystem(type), want, String(type));
});

test('openSqliteFile() finds out when it was led through a link, before it writes', async () => {
  await inTempDir(async (dir) => {
    const victim = path.join(dir, 'victim');
    await writeFile(victim, '');
    await symlink(victim, path.join(dir, 'builderd.db'));
    const opened = openSqliteFile(path.join(dir, 'builderd.db'), { signal });
    await assert.rejects(opened, { code: 'host.permission', message: /it is a symlink/ });
    assert.equal((await lstat(victim)).size, 0);
    await assert.rejects(lstat(`${victim}-wal`), { code: 'ENOENT' });
  });
});

test('openSqliteFile() refuses a file that is no database', async () => {
  await inTempDir(async (dir) => {
    const file = path.join(dir, 'builderd.db');
    await writeFile(file, 'not a database, but long enough to look at\n'.repeat(100));
    await assert.rejects(openSqliteFile(file, { signal }), { code: 'storage.failed' });
  });
});

test('openSqliteFile() opens with synced commits and a schema that is not believed', async () => {
  await inTempDir(async (dir) => {
    using db = await openSqliteFile(path.join(dir, 'builderd.db'), { signal });
    const settings = ['journal_mode', 'synchronous', 'trusted_schema', 'foreign_keys'].map(
      (name) => Object.values(db.prepare(`pragma ${name}`).get() ?? {})[0],
    );
    assert.deepEqual(settings, ['wal', 2, 0, 1]);
  });
});
