import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { startTestApi } from '../fixtures/api.ts';
import { type FaultProxy, startFaultProxy } from '../fixtures/fault-proxy.ts';
import { type CtlUser, ctlUser } from '../fixtures/run-ctl.ts';

const BYTES = randomBytes(3 * 1024 * 1024 + 17);

interface Setting extends AsyncDisposable {
  readonly user: CtlUser;
  readonly proxy: FaultProxy;
  readonly id: string;
}

/** A finished build with a disk and its papers, behind a proxy that can break answers. */
async function finishedBuild(): Promise<Setting> {
  await using stack = new AsyncDisposableStack();
  const api = stack.use(await startTestApi());
  const proxy = stack.use(await startFaultProxy(`127.0.0.1:${api.port}`));
  const { ref, token } = await api.tenant('acme');
  const user = stack.use(
    await ctlUser({ BUILDERCTL_SERVER: `http://${proxy.host}`, BUILDERCTL_TOKEN: token }),
  );
  const id = await api.build(token);
  await api.artifact(ref, id, 'rootfs.ext4', BYTES);
  await api.artifact(ref, id, 'metadata.json', Buffer.from('{"a":1}\n'));
  await api.log(id, ['done'], { end: true });
  const ended = stack.move();
  return { user, proxy, id, [Symbol.asyncDispose]: () => ended.disposeAsync() };
}

test('artifacts are listed, and fetched one by one, together and into a pipe', async () => {
  await using setting = await finishedBuild();
  const { user, id } = setting;
  const list = await user.run(['artifacts', 'list', id]);
  assert.match(list.stdout, /^rootfs\.ext4 +ext4 +3\.0 MiB .*sha256:[0-9a-f]{64}$/m);
  assert.equal(
    (await user.run(['artifacts', 'get', id, 'rootfs.ext4', '-o', 'disk.ext4'])).stdout,
    'disk.ext4\n',
  );
  assert.deepEqual(await readFile(join(user.home, 'disk.ext4')), BYTES);
  const saved = (await user.json(['artifacts', 'get', id, '-o', 'out/deep'])) as {
    saved: { path: string }[];
  };
  assert.deepEqual(saved.saved.map(({ path }) => path).toSorted(), [
    'out/deep/metadata.json',
    'out/deep/rootfs.ext4',
  ]);
  const piped = await user.run(['artifacts', 'get', id, 'metadata.json', '-o', '-']);
  assert.equal(piped.stdout, '{"a":1}\n');
  await mkdir(join(user.home, 'dir'));
  const into = await user.run(['artifacts', 'get', id, 'rootfs.ext4', '-o', 'dir']);
  assert.equal(into.stdout, 'dir/rootfs.ext4\n');
  assert.match((await user.run(['artifacts', 'get', id, '-o', 'disk.ext4'])).stderr, /EEXIST/);
  assert.equal((await user.run(['artifacts', 'get', id, '-o', '-'])).code, 2);
  assert.equal((await user.run(['artifacts', 'get', id, 'nope'])).code, 1);
  assert.deepEqual((await readdir(user.home)).toSorted(), ['dir', 'disk.ext4', 'out']);
});

test('a cut transfer goes on where it was, in this run and in the next', async () => {
  await using setting = await finishedBuild();
  const { user, proxy, id } = setting;
  const get = ['artifacts', 'get', id, 'rootfs.ext4', '-o', 'disk.ext4'];
  const isDisk = (seen: string): boolean => seen.endsWith('/rootfs.ext4');
  proxy.plan((seen, nth) =>
    isDisk(seen) && nth <= 2 ? { kind: 'reset', afterBytes: 1024 * 1024 } : undefined,
  );
  const resumed = await user.run(get);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.match(resumed.stderr, /the connection was cut; going on from there\n/);
  assert.deepEqual(await readFile(join(user.home, 'disk.ext4')), BYTES);

  // A run that is ended in the middle leaves its part; the next one asks for the rest alone.
  const stalled = Promise.withResolvers<void>();
  proxy.plan((seen) =>
    isDisk(seen)
      ? { kind: 'stall', afterBytes: 2 * 1024 * 1024, onStall: () => stalled.resolve() }
      : undefined,
  );
  const first = user.start(['artifacts', 'get', id, 'rootfs.ext4', '-o', 'second.ext4']);
  await stalled.promise;
  await partOf(user, 1024 * 1024);
  first.child.kill('SIGINT');
  assert.equal((await first.ended).code, 130);
  assert.ok(!(await readdir(user.home)).includes('second.ext4'));
  proxy.plan(() => undefined);
  const second = await user.run(['artifacts', 'get', id, 'rootfs.ext4', '-o', 'second.ext4']);
  assert.equal(second.code, 0, second.stderr);
  assert.deepEqual(await readFile(join(user.home, 'second.ext4')), BYTES);
  assert.deepEqual((await readdir(user.home)).toSorted(), ['disk.ext4', 'second.ext4']);
});

/** Waits until the part file holds that many bytes. */
async function partOf(user: CtlUser, bytes: number): Promise<void> {
  for (;;) {
    const [part] = (await readdir(user.home)).filter((name) => name.endsWith('.part'));
    if (part !== undefined && (await readFile(join(user.home, part))).length >= bytes) return;
    await new Promise((done) => setTimeout(done, 20));
  }
}

test('wrong bytes are never kept, whoever made them wrong', async () => {
  await using setting = await finishedBuild();
  const { user, proxy, id } = setting;
  const get = ['artifacts', 'get', id, 'rootfs.ext4', '-o', 'disk.ext4'];
  proxy.plan((seen) => (seen.endsWith('/rootfs.ext4') ? { kind: 'wrong-bytes' } : undefined));
  const wrong = await user.run(get);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /Cannot keep disk\.ext4: its bytes are not those of sha256:/);
  assert.deepEqual(await readdir(user.home), []);
  const piped = await user.run(['artifacts', 'get', id, 'rootfs.ext4', '-o', '-']);
  assert.equal(piped.code, 1);

  proxy.plan((seen) => (seen.endsWith('/rootfs.ext4') ? { kind: 'endless' } : undefined));
  const endless = await user.run(get);
  assert.equal(endless.code, 3);
  assert.match(endless.stderr, /the server sends more than its 3145745 bytes/);

  // What a broken disk or another program made of the part is found by the digest.
  proxy.plan(() => undefined);
  const [part] = (await readdir(user.home)).filter((name) => name.endsWith('.part'));
  await writeFile(join(user.home, part ?? '.none.part'), randomBytes(1000));
  assert.equal((await user.run(get)).code, 1);
  assert.equal((await user.run(get)).code, 0);
  assert.deepEqual(await readFile(join(user.home, 'disk.ext4')), BYTES);
});

test('build -o follows, then saves the disk with its papers beside it', async () => {
  await using api = await startTestApi();
  const { ref, token } = await api.tenant('acme');
  await using user = await ctlUser({ BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: token });
  const run = user.start(['build', 'debian:12', '-o', 'out/app.ext4']);
  await run.says('is pending');
  const { builds } = (await user.json(['builds', 'list'])) as { builds: { id: string }[] };
  const id = builds[0]?.id ?? '';
  await api.artifact(ref, id, 'rootfs.ext4', BYTES);
  await api.artifact(ref, id, 'metadata.json', Buffer.from('{}\n'));
  await api.artifact(ref, id, 'build.log', Buffer.from('log\n'));
  await api.log(id, ['done'], { end: true });
  const { code, stdout } = await run.ended;
  assert.equal(code, 0);
  assert.match(
    stdout,
    /^Build .* is completed.*\n {2}saved out\/app\.ext4\n {2}saved out\/app\.ext4\.metadata\.json\n/,
  );
  assert.deepEqual((await readdir(join(user.home, 'out'))).toSorted(), [
    'app.ext4',
    'app.ext4.metadata.json',
  ]);
  assert.deepEqual(await readFile(join(user.home, 'out/app.ext4')), BYTES);
});

test('build -o that could not be saved is refused before anything is asked for', async () => {
  await using setting = await finishedBuild();
  const { user, proxy } = setting;
  await writeFile(join(user.home, 'file'), '');
  for (const [args, message] of [
    [['-o', '.'], /want the name of a file, because there is one format/],
    [['-o', 'x/'], /want the name of a file/],
    [['-o', 'file', '--format', 'ext4,tar'], /want a directory, because there are 2 formats/],
    [['-o', 'file/below'], /ENOTDIR/],
  ] as const) {
    const { code, stderr } = await user.run(['build', 'debian:12', ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
  assert.ok(!proxy.seen.includes('POST /v1/builds'));
});
