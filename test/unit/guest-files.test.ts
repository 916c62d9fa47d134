import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256 } from '../../src/core/digest.ts';
import { planGuestFiles, type GuestPlan } from '../../src/rootfs/guest/plan-guest-files.ts';
import { configOf } from '../fixtures/image-config.ts';
import { plainTree, type TreeSpec } from '../fixtures/plain-tree.ts';

const DIGEST = sha256('image');
const ROOT = { uid: 0, gid: 0, additionalGids: [0] };
const POINTS = { proc: {}, sys: {}, dev: {}, run: {}, tmp: {} };
const INIT = Buffer.from('\x7fELF');

function plan(spec: TreeSpec, run: unknown = {}, init?: Buffer): GuestPlan {
  return planGuestFiles({
    tree: plainTree(spec).tree,
    config: configOf(run),
    user: ROOT,
    imageDigest: DIGEST,
    ...(init === undefined ? {} : { init }),
  });
}

/** `kind mode path`, with `!` for a replaced name. */
function names({ additions }: GuestPlan): string[] {
  return additions.map(
    ({ parent, name, kind, mode, replaces }) =>
      `${kind} ${mode.toString(8)} ${parent === '/' ? '' : parent}/${name}${replaces ? '!' : ''}`,
  );
}

function document(found: GuestPlan, name: string): unknown {
  const addition = found.additions.find((candidate) => candidate.name === name);
  return JSON.parse(addition?.content.toString() ?? 'null');
}

test('planGuestFiles() adds the two documents and the missing mount points', () => {
  assert.deepEqual(names(plan({})), [
    'file 644 /container.cmd',
    'file 644 /container.env',
    'dir 555 /proc',
    'dir 555 /sys',
    'dir 755 /dev',
    'dir 755 /run',
    'dir 1777 /tmp',
  ]);
});

test('planGuestFiles() leaves what the image has as a mount point', () => {
  const found = plan({ ...POINTS, run: '/var/run', tmp: Buffer.alloc(0), var: { run: {} } });
  assert.deepEqual(names(found), ['file 644 /container.cmd', 'file 644 /container.env']);
  assert.deepEqual(found.notices.slice(2), [
    'Left /tmp as the image has it, though it is no directory',
  ]);
});

test('planGuestFiles() writes the contract that guests in the field know', () => {
  const found = plan(POINTS, {
    Entrypoint: ['/entry', '-x'],
    Cmd: ['serve'],
    Env: ['A=1'],
    WorkingDir: '/srv',
    ExposedPorts: { '80/tcp': {}, '80/udp': {}, '9/udp': {} },
    StopSignal: '9',
    Volumes: { '/data': {} },
  });
  assert.deepEqual(document(found, 'container.cmd'), ['/entry', '-x', 'serve']);
  assert.deepEqual(document(found, 'container.env'), {
    working_dir: '/srv',
    env: { A: '1', PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
    exposed_ports: ['9', '80'],
    user: '0:0',
    additional_gids: [0],
    stop_signal: 'SIGKILL',
    volumes: ['/data'],
    image_digest: DIGEST,
  });
});

test('planGuestFiles() runs a shell when the image names no command', () => {
  const found = plan(POINTS);
  assert.deepEqual(document(found, 'container.cmd'), ['/bin/sh']);
  assert.equal(
    (document(found, 'container.env') as { stop_signal: string }).stop_signal,
    'SIGTERM',
  );
});

test('planGuestFiles() adds the init only when it is named, below the real /usr/bin', () => {
  const cases: readonly (readonly [TreeSpec, readonly string[]])[] = [
    [{ usr: { bin: {} } }, ['file 755 /usr/bin/metald-init']],
    [{ usr: { bin: { 'metald-init': '/etc/passwd' } } }, ['file 755 /usr/bin/metald-init!']],
    [{ usr: '/opt/usr', opt: { usr: { bin: {} } } }, ['file 755 /opt/usr/bin/metald-init']],
    [{}, ['dir 755 /usr', 'dir 755 /usr/bin', 'file 755 /usr/bin/metald-init']],
    [{ usr: '/away' }, ['dir 755 /away', 'dir 755 /away/bin', 'file 755 /away/bin/metald-init']],
  ];
  for (const [spec, want] of cases) {
    const found = plan({ ...POINTS, ...spec }, {}, INIT);
    assert.deepEqual(names(found).slice(2), want);
    assert.equal(found.additions.at(-1)?.content, INIT);
  }
});

test('planGuestFiles() replaces a link under a final name and never follows it', () => {
  const found = plan({ ...POINTS, 'container.cmd': '/etc/passwd', etc: { passwd: INIT } });
  assert.deepEqual(names(found), ['file 644 /container.cmd!', 'file 644 /container.env']);
  assert.equal(found.notices[0], 'Replaced /container.cmd');
});

test('planGuestFiles() refuses when a file would have to replace a directory', () => {
  const unrepresentable = { code: 'artifact.unrepresentable' };
  assert.throws(() => plan({ 'container.env': {} }), unrepresentable);
  assert.throws(() => plan({ usr: Buffer.alloc(0) }, {}, INIT), unrepresentable);
  assert.throws(() => plan({ usr: 'usr' }, {}, INIT), unrepresentable);
  assert.throws(() => plan({ usr: 'a/../../x' }, {}, INIT), unrepresentable);
  assert.throws(() => plan({ usr: { bin: { 'metald-init': {} } } }, {}, INIT), unrepresentable);
});

test('planGuestFiles() refuses an init whose way leads through names that nothing can hold', () => {
  for (const usr of ['n'.repeat(256), 'd/'.repeat(1100), '/container.cmd/x']) {
    assert.throws(() => plan({ ...POINTS, usr }, {}, INIT), { code: 'artifact.unrepresentable' });
  }
});

test('planGuestFiles() adds a name once when the init and a mount point both need it', () => {
  const { proc: _proc, ...others } = POINTS;
  const found = plan({ ...others, usr: '/proc/x' }, {}, INIT);
  assert.deepEqual(names(found), [
    'file 644 /container.cmd',
    'file 644 /container.env',
    'dir 755 /proc',
    'dir 755 /proc/x',
    'dir 755 /proc/x/bin',
    'file 755 /proc/x/bin/metald-init',
  ]);
});

test('planGuestFiles() says when a document is larger than guests read', () => {
  const Env = Array.from({ length: 9 }, (_, i) => `V${i}=${'x'.repeat(110_000)}`);
  assert.deepEqual(plan(POINTS, { Env }).notices.slice(2), []);
  const Cmd = Array.from({ length: 4 }, () => '\u0001'.repeat(110_000));
  assert.deepEqual(plan(POINTS, { Cmd }).notices.slice(2), [
    '/container.cmd is larger than the 1048576 bytes that guests read',
  ]);
});
