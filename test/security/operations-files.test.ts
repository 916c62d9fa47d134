import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  lchown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../src/cli/config.ts';
import { prepareDirectories, questionablePlaces } from '../../src/cli/serve/service-directories.ts';
import { whoElseMayChange } from '../../src/cli/trusted-path.ts';
import { type CliResult, runCli } from '../fixtures/run-cli.ts';

const needsRoot = process.getuid?.() === 0 ? false : 'host lacks root';
/** An account of the service; it need not exist. */
const SERVICE = { uid: 64_077, gid: 64_078, name: 'service' };

interface Places extends AsyncDisposable {
  readonly dir: string;
  readonly data: string;
  readonly environment: Readonly<Record<string, string>>;
  run(...args: readonly string[]): Promise<CliResult>;
  prepare(): Promise<void>;
}

async function places(settings: Readonly<Record<string, string>> = {}): Promise<Places> {
  const dir = await mkdtemp(path.join(tmpdir(), 'bd-ops-'));
  const names = ['DATABASE_DATA', 'ROOTFS_OUTPUT', 'CACHE', 'WORKSPACE', 'SCRATCH', 'RUN'];
  const environment: Record<string, string> = {
    ...Object.fromEntries(
      names.map((name) => [`UNKEY_BUILDERD_${name}_DIR`, path.join(dir, name.toLowerCase())]),
    ),
    ...settings,
  };
  return {
    dir,
    data: path.join(dir, 'database_data'),
    environment,
    run: (...args) => runCli(args, { env: environment }),
    prepare: () => prepareDirectories(parseConfig(environment).settings, SERVICE),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

async function ownersIn(directory: string): Promise<Readonly<Record<string, number>>> {
  const names = await readdir(directory);
  const owners = await Promise.all(
    names.map(async (name) => [name, (await lstat(path.join(directory, name))).uid] as const),
  );
  return Object.fromEntries(owners);
}

test('H22: commands of root leave no file that the service could not open, before and after its first start', {
  skip: needsRoot,
}, async () => {
  await using here = await places();
  assert.equal((await here.run('migrate')).code, 0);
  await here.prepare();
  assert.equal((await lstat(here.data)).uid, SERVICE.uid);
  assert.deepEqual(await ownersIn(here.data), { 'builderd.db': SERVICE.uid });
  for (const command of ['migrate', 'validate-db', '--test-database', 'gc', 'df', 'fsck']) {
    const { code, stderr } = await here.run(command);
    assert.equal(code, 0, `${command}: ${stderr}`);
    const owners = await ownersIn(here.data);
    assert.ok(
      Object.values(owners).every((uid) => uid === SERVICE.uid),
      `${command}: ${JSON.stringify(owners)}`,
    );
  }
});

test('H22: what stands in a directory that others may write to is handed to nobody', {
  skip: needsRoot,
}, async () => {
  await using here = await places();
  await mkdir(here.data, { mode: 0o777 });
  await writeFile(path.join(here.data, 'planted'), '', { mode: 0o600 });
  await mkdir(path.join(here.data, 'open'));
  await chmod(here.data, 0o777);
  await here.prepare();
  assert.deepEqual(await ownersIn(here.data), { planted: 0, open: 0 });
});

test('H22: a link in the data directory does not make the service an owner of what it names', {
  skip: needsRoot,
}, async () => {
  await using here = await places();
  await mkdir(here.data, { mode: 0o700 });
  const outside = path.join(here.dir, 'outside');
  await writeFile(outside, '');
  await symlink(outside, path.join(here.data, 'builderd.db'));
  await here.prepare();
  assert.equal((await lstat(outside)).uid, 0);
});

test('H19: a place that is a link, a file, or below one is told by its name and setting', async () => {
  for (const setting of ['DATABASE_DATA', 'ROOTFS_OUTPUT', 'CACHE', 'SCRATCH', 'RUN']) {
    await using here = await places();
    const place = path.join(here.dir, setting.toLowerCase());
    const elsewhere = path.join(here.dir, 'elsewhere');
    await mkdir(elsewhere);
    const expected = {
      code: 'config.invalid',
      message: new RegExp(`^Cannot use ${place} for UNKEY_BUILDERD_${setting}_DIR: `),
    };
    const prepare = (): Promise<void> =>
      prepareDirectories(parseConfig(here.environment).settings, undefined);
    await symlink(elsewhere, place);
    await assert.rejects(prepare(), expected);
    await rm(place);
    await writeFile(place, '');
    await assert.rejects(prepare(), expected);
    assert.deepEqual(await readdir(elsewhere), []);
  }
});

test('H7 and H19: a place below a directory that others may write is refused, each by a line of its own', {
  skip: needsRoot,
}, async () => {
  await using here = await places();
  const further: string[] = [];
  const prepare = (): Promise<void> =>
    prepareDirectories(parseConfig(here.environment).settings, SERVICE, ({ message }) =>
      further.push(message),
    );
  // The service user may hold the directory of the database, not the ones that root works in.
  await chown(here.dir, SERVICE.uid, SERVICE.gid);
  await assert.rejects(prepare(), {
    code: 'config.invalid',
    message: `Cannot use ${here.dir}/rootfs_output for UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: of ${here.dir}, it does not belong to root`,
  });
  assert.equal(further.length, 4);
  assert.match(further[0] ?? '', /^Cannot use .*cache for UNKEY_BUILDERD_CACHE_DIR: /);
  assert.deepEqual(await readdir(here.dir), ['database_data']);
  await chown(here.dir, 12_345, 0);
  await assert.rejects(prepare(), { message: /DATABASE_DATA_DIR: of .*, user 12345 owns it/ });
  await chown(here.dir, 0, 0);
  await chmod(here.dir, 0o775);
  await assert.rejects(prepare(), { message: /of .*, its group may write it/ });
  await chmod(here.dir, 0o755);
  await prepare();
});

test('a link on the way is followed only where root made it, and to where only root writes', {
  skip: needsRoot,
}, async () => {
  await using here = await places();
  const root = new Set([0]);
  const link = path.join(here.dir, 'link');
  await mkdir(path.join(here.dir, 'open'));
  await mkdir(path.join(here.dir, 'open/inner'));
  await symlink('open/inner', link);
  const place = path.join(link, 'not-there-yet');
  assert.equal(whoElseMayChange(place, root), undefined);
  await chmod(path.join(here.dir, 'open'), 0o777);
  assert.equal(whoElseMayChange(place, root), `of ${here.dir}/open, everybody may write it`);
  await chmod(path.join(here.dir, 'open'), 0o755);
  await lchown(link, SERVICE.uid, SERVICE.gid);
  assert.equal(whoElseMayChange(place, root), `of ${link}, it does not belong to root`);
  assert.equal(whoElseMayChange(place, new Set([0, SERVICE.uid])), undefined);
  await symlink('loop', path.join(here.dir, 'loop'));
  const loop = path.join(here.dir, 'loop', 'a');
  assert.match(whoElseMayChange(loop, root) ?? '', /too many links/);
});

test('H19: a place in memory is told of, where it has to last', { skip: needsRoot }, async () => {
  await using here = await places({ UNKEY_BUILDERD_DATABASE_DATA_DIR: '/dev/shm' });
  await mkdir(path.join(here.dir, 'rootfs_output'));
  for (const name of ['cache', 'workspace', 'scratch', 'run'])
    await mkdir(path.join(here.dir, name));
  const told = await questionablePlaces(parseConfig(here.environment).settings);
  const inMemory = told.filter((line) => line.includes('is in memory'));
  assert.deepEqual(
    inMemory.map((line) => line.split(' ', 2)[1]),
    ['(UNKEY_BUILDERD_DATABASE_DATA_DIR)'],
  );
});

test('a command that only looks says so where the service never ran, and makes nothing', async () => {
  await using here = await places();
  assert.equal((await here.run('migrate')).code, 0);
  const { code, stderr } = await here.run('df');
  assert.equal(code, 2, stderr);
  assert.match(
    stderr,
    /UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: there is none yet; builderd serve makes it/,
  );
  assert.deepEqual(await readdir(here.dir), ['database_data']);
});
