import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtempDisposable, rm, symlink } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

interface StrippedCode {
  readonly privateDirectory: (account: {
    readonly homedir: string;
    readonly uid: number;
  }) => string | undefined;
}

const MODULE = new URL('../../src/cli/stripped-code.mjs', import.meta.url).href;
const { privateDirectory } = (await import(MODULE)) as StrippedCode;
const { uid } = userInfo();

test('stripped code is kept in the home of the account, and nowhere that others can change', async () => {
  await using home = await mkdtempDisposable(path.join(tmpdir(), 'builderd-home-'));
  const homedir = home.path;
  const kept = path.join(homedir, '.cache/builderd/stripped');
  assert.equal(privateDirectory({ homedir, uid }), kept);
  assert.equal(privateDirectory({ homedir, uid }), kept);
  for (const place of ['', '.cache', '.cache/builderd', '.cache/builderd/stripped']) {
    const directory = path.join(homedir, place);
    for (const mode of [0o770, 0o702, 0o1777]) {
      await chmod(directory, mode);
      assert.equal(privateDirectory({ homedir, uid }), undefined, `${place} ${mode.toString(8)}`);
    }
    await chmod(directory, 0o700);
    assert.equal(privateDirectory({ homedir, uid }), kept);
  }
  const elsewhere = path.join(homedir, 'elsewhere');
  await mkdir(elsewhere);
  await rm(path.join(homedir, '.cache'), { recursive: true });
  await symlink(elsewhere, path.join(homedir, '.cache'));
  assert.equal(privateDirectory({ homedir, uid }), undefined);
});

test('stripped code is not looked for in the home of somebody else', async () => {
  await using home = await mkdtempDisposable(path.join(tmpdir(), 'builderd-home-'));
  // Root may give a home away; who is not root asks as somebody else. Root's own is trusted by all.
  if (uid === 0) await chown(home.path, 65_001, 65_001);
  assert.equal(privateDirectory({ homedir: home.path, uid: 65_002 }), undefined);
});
