import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { writeOciLayout } from '../../contrib/dev/oci-layout.ts';
import type { BuildResult } from '../../src/builds/request.ts';
import { startTestContainerd, type TestContainerd } from '../fixtures/containerd.ts';
import { LAUNCHER, runCli } from '../fixtures/run-cli.ts';
import { tarOf } from '../fixtures/small-tar.ts';

const run = promisify(execFile);
const SIGNAL = AbortSignal.timeout(300_000);

let containerd: TestContainerd;
let socket: readonly string[];

before(async () => {
  containerd = await startTestContainerd();
  socket = ['--containerd-address', containerd.daemon.address, '--namespace', 'cli-test'];
  await makeLayout('good', { User: 'app', Entrypoint: ['/bin/app'], Cmd: ['-v'], Env: ['A=1'] });
  await makeLayout('unknown-user', { User: 'nobody-knows' });
});
after(() => containerd[Symbol.asyncDispose]());

function inDir(name: string): string {
  return join(containerd.dir, name);
}

async function makeLayout(name: string, config: Readonly<Record<string, unknown>>): Promise<void> {
  const tar = inDir(`${name}.tar`);
  const files = [
    { name: 'etc/passwd', content: 'root:x:0:0::/root:/bin/sh\napp:x:1000:50::/srv:/bin/sh\n' },
    { name: 'etc/group', content: 'root:x:0:\nwheel:x:10:app\n' },
    { name: 'bin/app', content: 'program', mode: 0o755 },
  ];
  await writeFile(tar, tarOf(files));
  const dir = inDir(name);
  await mkdir(dir);
  const image = { dir, tag: 'v1', layerTars: [tar], config, createdEpoch: 1_700_000_000 };
  await writeOciLayout({ ...image, signal: SIGNAL });
}

test('builderd build writes every format, the metadata and the fidelity report', async () => {
  const out = inDir('out');
  const { code, stdout, stderr } = await runCli([
    'build',
    `oci:${inDir('good')}:v1`,
    ...['--format', 'ext4,tar', '-o', out, '--guest-files', '--json', ...socket],
  ]);
  assert.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as BuildResult;
  assert.deepEqual(
    result.artifacts.map(({ format, path }) => [format, path]),
    [
      ['ext4', join(out, 'rootfs.ext4')],
      ['tar', join(out, 'rootfs.tar')],
    ],
  );
  assert.deepEqual((await readdir(out)).sort(), [
    'fidelity.json',
    'metadata.json',
    'rootfs.ext4',
    'rootfs.tar',
  ]);
  const metadata = JSON.parse(await readFile(join(out, 'metadata.json'), 'utf8'));
  assert.equal(metadata.resolvedUser.uid, 1000);
  assert.deepEqual(metadata.resolvedUser.additionalGids, [10, 50]);
  assert.deepEqual(metadata.entrypoint, ['/bin/app']);
  assert.deepEqual(
    metadata.artifacts.map(({ file }: { file: string }) => file),
    ['rootfs.ext4', 'rootfs.tar'],
  );
  await run('e2fsck', ['-fn', join(out, 'rootfs.ext4')]);
  const cmd = await run('debugfs', ['-R', 'cat /container.cmd', join(out, 'rootfs.ext4')]);
  assert.deepEqual(JSON.parse(cmd.stdout), ['/bin/app', '-v']);
  const list = await run('tar', ['-tf', join(out, 'rootfs.tar')]);
  const names = list.stdout.split('\n').map((name) => name.replace(/^\.\/|\/$/g, ''));
  for (const name of ['container.env', 'container.cmd', 'proc', 'sys', 'dev', 'run', 'tmp']) {
    assert.ok(names.includes(name), name);
  }
});

test('builderd build --quiet prints the path alone', async () => {
  const file = inDir('quiet.ext4');
  const args = ['build', `oci:${inDir('good')}`, '-o', file, '--quiet', ...socket];
  assert.deepEqual(await runCli(args), { code: 0, stdout: `${file}\n`, stderr: '' });
});

test('builderd build tells plain lines in a pipe, JSON on request, and a summary', async () => {
  const build = (...more: readonly string[]): ReturnType<typeof runCli> =>
    runCli(['build', `oci:${inDir('good')}`, ...socket, ...more]);
  const plain = await build('-o', inDir('plain.ext4'));
  assert.equal(plain.code, 0);
  assert.match(plain.stderr, /^Convert done in /m);
  // oxlint-disable-next-line no-control-regex -- that there is none is what is tested
  assert.doesNotMatch(plain.stderr, /\u001b/);
  assert.match(
    plain.stdout,
    /^Built .* in [^]*\n {2}ext4 .*plain\.ext4 {2}[^]*metadata[^]*fidelity/,
  );
  const json = await build('-o', inDir('json.ext4'), '--progress', 'json');
  const events = json.stderr.trim().split('\n');
  for (const line of events) assert.equal((JSON.parse(line) as { type: string }).type, 'progress');
  assert.deepEqual(await readFile(inDir('plain.ext4')), await readFile(inDir('json.ext4')));
});

test('builderd build paints on a terminal and gives the cursor back', async () => {
  const args = ['build', `oci:${inDir('good')}`, '-o', inDir('tty.ext4'), ...socket];
  const command = [process.execPath, LAUNCHER, ...args].map((word) => `'${word}'`).join(' ');
  const { stdout } = await run('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, TERM: 'xterm', NO_COLOR: '1' },
  });
  assert.equal(stdout.split('\u001b[?25l').length, 2);
  assert.equal(stdout.split('\u001b[?25h').length, 2);
  assert.match(stdout, /✔ Convert[^]*Built /);
});

test('builderd build leaves out what its options name, and says so', async () => {
  const out = inDir('filtered.tar');
  const source = `oci:${inDir('good')}:v1`;
  const filter = ['--exclude', 'etc', '--exclude', 'srv', '--preserve', 'etc/passwd'];
  const { code, stderr } = await runCli([
    'build',
    source,
    '-f',
    'tar',
    '-o',
    out,
    ...filter,
    '--remove-docs',
    ...socket,
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /Left out 1 entry of the image/);
  assert.match(stderr, /Nothing in the image matches "srv"/);
  const { stdout } = await run('tar', ['-tf', out]);
  assert.deepEqual(
    stdout
      .split('\n')
      .filter((name) => !name.endsWith('/'))
      .sort(),
    ['', 'bin/app', 'etc/passwd'],
  );
  const metadata = JSON.parse(await readFile(`${out}.metadata.json`, 'utf8'));
  assert.deepEqual(metadata.filter, {
    exclude: ['etc', 'srv'],
    preserve: ['etc/passwd'],
    removeDocs: true,
    removeCache: false,
  });

  const bad = await runCli(['build', source, '-o', inDir('none'), '--exclude', '/etc', ...socket]);
  assert.equal(bad.code, 2, bad.stderr);
  assert.match(bad.stderr, /it starts with a slash/);
});

test('builderd build tells the guest what its options name', async () => {
  const out = inDir('runtime.tar');
  const source = `oci:${inDir('good')}:v1`;
  const words = ['--entrypoint', '/bin/app', '--command', '-c', '--env', 'A=b=c', '--expose', '80'];
  const args = ['build', source, '-f', 'tar', '-o', out, '--guest-files', ...words, ...socket];
  const { code, stderr } = await runCli([...args, '--working-dir', '/srv']);
  assert.equal(code, 0, stderr);
  const { stdout } = await run('tar', ['-xOf', out, 'container.cmd']);
  assert.deepEqual(JSON.parse(stdout), ['/bin/app', '-c']);
  const metadata = JSON.parse(await readFile(`${out}.metadata.json`, 'utf8'));
  assert.deepEqual([metadata.working_dir, metadata.env.A], ['/srv', 'b=c']);
  assert.deepEqual(metadata.exposed_ports, ['80/tcp']);
  const bad = await runCli([...args, '--working-dir', 'srv']);
  assert.equal(bad.code, 2, bad.stderr);
});

test('a user that the image does not know fails the build and leaves nothing', async () => {
  const out = inDir('nothing');
  const { code, stdout } = await runCli([
    'build',
    `oci:${inDir('unknown-user')}`,
    ...['-o', join(out, 'x.ext4'), '--json', ...socket],
  ]);
  assert.equal(code, 1);
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
  assert.equal(error.code, 'image.bad_config');
  assert.match(error.message, /"nobody-knows": \/etc\/passwd/);
  assert.deepEqual(await readdir(out).catch(() => []), []);
});

test('builderd doctor exits 0 where images can be converted', async () => {
  const args = ['doctor', '--json', '--containerd-address', containerd.daemon.address];
  const { code, stdout } = await runCli(args);
  const { convertible, checks } = JSON.parse(stdout) as {
    convertible: boolean;
    checks: readonly { id: string; verdict: string }[];
  };
  assert.deepEqual(
    checks.filter(({ verdict }) => verdict === 'fail'),
    [],
  );
  assert.equal(convertible, true);
  assert.equal(code, 0);
  const ids = checks.map(({ id }) => id);
  for (const id of ['reachable', 'version', 'snapshotters', 'features', 'content']) {
    assert.ok(ids.includes(`containerd.${id}`), id);
  }
});
