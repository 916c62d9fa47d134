import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startTestApi } from '../fixtures/api.ts';
import { type FaultProxy, startFaultProxy } from '../fixtures/fault-proxy.ts';
import { type CtlUser, ctlUser } from '../fixtures/run-ctl.ts';

const BYTES = randomBytes(300_000);
const isRoot = process.getuid?.() === 0;

interface Setting extends AsyncDisposable {
  readonly user: CtlUser;
  readonly proxy: FaultProxy;
  readonly get: readonly string[];
  /** Where the beginning of the download is collected. */
  readonly part: string;
}

/** A directory in which a download was once cut, so that the name of its beginning is known. */
async function cutDownload(): Promise<Setting> {
  await using undo = new AsyncDisposableStack();
  const api = undo.use(await startTestApi());
  const proxy = undo.use(await startFaultProxy(`127.0.0.1:${api.port}`));
  const { ref, token } = await api.tenant('acme');
  const user = undo.use(
    await ctlUser({ BUILDERCTL_SERVER: `http://${proxy.host}`, BUILDERCTL_TOKEN: token }),
  );
  const id = await api.build(token);
  await api.artifact(ref, id, 'rootfs.ext4', BYTES);
  await api.log(id, ['done'], { end: true });
  const get = ['artifacts', 'get', id, 'rootfs.ext4', '-o', 'disk.ext4'];
  proxy.plan((seen) => (seen.endsWith('/rootfs.ext4') ? { kind: 'endless' } : undefined));
  assert.equal((await user.run(get)).code, 3);
  proxy.plan(() => undefined);
  const [name = ''] = (await readdir(user.home)).filter((each) => each.endsWith('.part'));
  const part = join(user.home, name);
  const kept = undo.move();
  return { user, proxy, get, part, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

type Plant = (part: string, home: string) => Promise<void>;
const PLANTS: readonly (readonly [name: string, plant: Plant, needsRoot?: true])[] = [
  ['a symbolic link to a file of the user', (part, home) => symlink(join(home, 'victim'), part)],
  ['a symbolic link to nothing', (part, home) => symlink(join(home, 'made-by-us'), part)],
  ['another name of a file of the user', (part, home) => link(join(home, 'victim'), part)],
  ['a directory', (part) => mkdir(part)],
  ['a pipe', async (part) => void (await promisify(execFile)('mkfifo', [part]))],
  [
    'a file that others may write to',
    async (part) => {
      await writeFile(part, BYTES.subarray(0, 1000));
      await chmod(part, 0o666);
    },
  ],
  [
    'a file of another user',
    async (part) => {
      await writeFile(part, BYTES.subarray(0, 1000));
      await chown(part, 64_099, 64_099);
    },
    true,
  ],
];
for (const [name, plant, needsRoot] of PLANTS) {
  test(`a download does not go on with ${name} in the place of its beginning`, {
    skip: needsRoot === true && !isRoot ? 'host lacks root' : false,
  }, async () => {
    await using setting = await cutDownload();
    const { user, proxy, get, part } = setting;
    const victim = join(user.home, 'victim');
    await writeFile(victim, 'precious');
    await rm(part);
    await plant(part, user.home);
    const planted = await lstat(part);
    const asked = proxy.seen.length;
    const { code, stderr } = await user.run(get);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^builderctl: Cannot (?:write|go on with) ".*\nnext: .*\n$/);
    assert.ok(!proxy.seen.slice(asked).some((each) => each.endsWith('/rootfs.ext4')));
    assert.equal(await readFile(victim, 'utf8'), 'precious');
    assert.equal((await lstat(part)).ino, planted.ino, 'what is there stays for the user to see');
    assert.ok(!(await readdir(user.home)).some((each) => /made-by-us|disk\.ext4$/.test(each)));
    await rm(part, { recursive: true });
    assert.equal((await user.run(get)).code, 0);
    assert.deepEqual(await readFile(join(user.home, 'disk.ext4')), BYTES);
  });
}
