import assert from 'node:assert/strict';
import { chmod, lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../src/cli/config.ts';
import { prepareDirectories } from '../../src/cli/serve/service-directories.ts';
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
