import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkCgroups, parseCgroupMode } from '../../src/cli/doctor/check-cgroups.ts';
import { checkRuntimeVersion, checkSnapshotters } from '../../src/cli/doctor/check-containerd.ts';
import {
  checkIdMappedOverlay,
  checkKernelVersion,
  checkSeccomp,
  checkUserNamespaces,
} from '../../src/cli/doctor/check-kernel.ts';
import { checkNodeVersion } from '../../src/cli/doctor/check-node.ts';
import { checkRuncFeatures, checkRuncVersion } from '../../src/cli/doctor/check-runc.ts';
import { checkSwap, checkSysctls, SYSCTLS } from '../../src/cli/doctor/check-sysctls.ts';
import type { Check } from '../../src/cli/doctor/check.ts';
import { renderChecks } from '../../src/cli/doctor/doctor-command.ts';
import { FLOORS, meetsFloor, parseVersion } from '../../src/cli/doctor/version-floor.ts';
import { runCli } from '../fixtures/run-cli.ts';

test('parseVersion() finds the version in what programs print', () => {
  const cases: readonly (readonly [string, readonly number[] | undefined])[] = [
    ['runc version 1.1.5+ds1\ncommit: 1.2.3', [1, 1, 5]],
    ['v2.1.9', [2, 1, 9]],
    ['1.6.20~ds1', [1, 6, 20]],
    ['e2fsck 1.47.0 (5-Feb-2023)', [1, 47, 0]],
    ['6.18.44-fc-v595', [6, 18, 44]],
    ['mkfs.erofs 1.5', [1, 5, 0]],
    ['no version', undefined],
  ];
  for (const [text, want] of cases) assert.deepEqual(parseVersion(text), want, text);
});

test('meetsFloor() judges each release line by its own floor', () => {
  const cases: readonly (readonly [string, boolean])[] = [
    ['1.6.20', false],
    ['1.7.32', false],
    ['1.7.33', true],
    ['2.0.9', false],
    ['2.1.8', false],
    ['2.1.9', true],
    ['2.2.4', false],
    ['2.2.5', true],
    ['2.3.1', false],
    ['2.3.2', true],
    ['2.4.0', true],
    ['3.0.0', true],
  ];
  for (const [text, want] of cases) {
    const version = parseVersion(text);
    assert.ok(version !== undefined);
    assert.equal(meetsFloor(version, FLOORS.containerd), want, text);
  }
});

function verdictOf({ verdict, advice }: Check): string {
  assert.equal(advice === undefined, verdict === 'ok', 'advice stands with everything but ok');
  return verdict;
}

const VERDICTS: readonly (readonly [string, Check, string])[] = [
  ['containerd 2.3.2', checkRuntimeVersion('v2.3.2'), 'ok'],
  ['containerd 1.6.20~ds1', checkRuntimeVersion('1.6.20~ds1'), 'warn'],
  ['containerd without a version', checkRuntimeVersion('unknown'), 'warn'],
  ['runc 1.3.6', checkRuncVersion('runc version 1.3.6'), 'ok'],
  ['runc 1.1.5', checkRuncVersion('runc version 1.1.5+ds1'), 'warn'],
  ['runc without a version', checkRuncVersion(''), 'warn'],
  ['runc features', checkRuncFeatures('{"linux":{"cgroup":{"v2":true}}}'), 'ok'],
  ['runc without features', checkRuncFeatures(undefined), 'warn'],
  ['runc with broken features', checkRuncFeatures('{'), 'warn'],
  ['kernel 6.18', checkKernelVersion('6.18.44-fc'), 'ok'],
  ['kernel 6.1', checkKernelVersion('6.1.0-30-amd64'), 'warn'],
  ['kernel 5.10', checkKernelVersion('5.10.0'), 'warn'],
  ['kernel 5.3', checkKernelVersion('5.3.18'), 'fail'],
  ['Node 26', checkNodeVersion('26.10.0'), 'ok'],
  ['Node 24', checkNodeVersion('24.9.0'), 'fail'],
  ['seccomp', checkSeccomp('kill_process errno'), 'ok'],
  ['no seccomp', checkSeccomp(undefined), 'warn'],
  ['no overlay', checkIdMappedOverlay('nodev\tsysfs\n\text4', '6.1.0'), 'warn'],
  ['overlay on 5.10', checkIdMappedOverlay('nodev\toverlay\n', '5.10.0'), 'warn'],
  ['overlay that nobody probed', checkIdMappedOverlay('nodev\toverlay\n', '6.1.0'), 'warn'],
  ['no swap', checkSwap('Filename\tType'), 'ok'],
  ['compressed swap', checkSwap('Filename\tType\n/dev/zram0 partition'), 'ok'],
  ['plain swap', checkSwap('Filename\tType\n/dev/sda2 partition'), 'warn'],
];
for (const [name, check, want] of VERDICTS) {
  test(`doctor says ${want} to ${name}`, () => assert.equal(verdictOf(check), want));
}

test('checkKernelVersion() names each thing that an old kernel lacks', () => {
  assert.match(checkKernelVersion('5.10.0').fact, /cgroup\.kill.*overlayfs.*tmpfs/);
  assert.doesNotMatch(checkKernelVersion('6.1.0').fact, /cgroup\.kill/);
});

test('checkUserNamespaces() knows the switches of distributions', () => {
  const facts = { max: '100', debianClone: undefined, appArmor: undefined, isRoot: false };
  assert.equal(checkUserNamespaces(facts).verdict, 'ok');
  assert.equal(checkUserNamespaces({ ...facts, max: undefined }).verdict, 'warn');
  assert.equal(checkUserNamespaces({ ...facts, max: '0' }).verdict, 'warn');
  assert.equal(checkUserNamespaces({ ...facts, debianClone: '0' }).verdict, 'warn');
  assert.equal(checkUserNamespaces({ ...facts, appArmor: '1' }).verdict, 'warn');
  assert.equal(checkUserNamespaces({ ...facts, appArmor: '1', isRoot: true }).verdict, 'ok');
});

const V1 = '32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu';
const V2 =
  '29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot';

test('parseCgroupMode() tells unified, hybrid and v1 apart', () => {
  assert.deepEqual(parseCgroupMode(V2), {
    kind: 'unified',
    root: '/sys/fs/cgroup',
    options: 'rw,nsdelegate,memory_recursiveprot',
  });
  assert.deepEqual(parseCgroupMode(`${V1}\n${V2}`), { kind: 'hybrid', root: '/sys/fs/cgroup' });
  assert.deepEqual(parseCgroupMode(V1), { kind: 'v1' });
  assert.deepEqual(parseCgroupMode('1 1 0:1 / / rw - ext4 /dev/vda rw'), { kind: 'none' });
});

test('checkCgroups() warns, and never stops a conversion', () => {
  const verdicts = (mode: Parameters<typeof checkCgroups>[0], controllers?: string): string[] =>
    checkCgroups(mode, controllers).map(({ verdict }) => verdict);
  const unified = parseCgroupMode(V2);
  assert.deepEqual(verdicts(unified, 'cpuset cpu io memory pids'), ['ok', 'ok', 'ok']);
  assert.deepEqual(verdicts(unified, 'cpu memory'), ['ok', 'warn', 'ok']);
  const bare = { kind: 'unified', root: '/x', options: 'rw' } as const;
  assert.deepEqual(verdicts(bare, ''), ['ok', 'warn', 'warn']);
  assert.deepEqual(verdicts({ kind: 'hybrid', root: '/x' }), ['warn']);
  assert.deepEqual(verdicts({ kind: 'v1' }), ['warn']);
  assert.deepEqual(verdicts({ kind: 'none' }), ['warn']);
});

test('checkSnapshotters() wants a working overlayfs', () => {
  const plugin = { type: 't', exports: new Map<string, string>(), capabilities: [] };
  const overlay = { ...plugin, id: 'overlayfs' };
  const native = { ...plugin, id: 'native', capabilities: ['rebase'] };
  assert.deepEqual(checkSnapshotters([overlay, native]), [
    {
      id: 'containerd.snapshotters',
      verdict: 'ok',
      fact: 'snapshotters: overlayfs, native (rebase)',
    },
  ]);
  const [broken] = checkSnapshotters([{ ...overlay, fault: 'no overlay' }, native]);
  assert.match(broken?.fact ?? '', /overlayfs does not work: no overlay/);
  assert.equal(checkSnapshotters([])[0]?.verdict, 'warn');
});

test('checkSysctls() accepts what the security page asks for and warns about the rest', () => {
  const good = new Map(SYSCTLS.map(({ name, wanted }) => [name, wanted.replace(/ .*/, '')]));
  assert.deepEqual(new Set(checkSysctls(good).map(verdictOf)), new Set(['ok']));
  const missing = new Map<string, string | undefined>();
  assert.deepEqual(new Set(checkSysctls(missing).map(verdictOf)), new Set(['warn']));
  const bad = new Map([...good.keys()].map((name) => [name, 'x']));
  assert.deepEqual(new Set(checkSysctls(bad).map(verdictOf)), new Set(['warn']));
});

test('renderChecks() escapes what a daemon says', () => {
  const text = renderChecks(
    [{ id: 'a', verdict: 'warn', fact: 'x\u001b[2J\ny', advice: 'do\nit' }],
    (_verdict, mark) => mark,
  );
  assert.equal(text, 'warn  a  x\\x1b[2J\\x0ay\n         → do\\x0ait\n');
});

test('builderd doctor exits 3 without containerd, in text and JSON', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'builderd-doctor-'));
  try {
    const args = ['doctor', '--containerd-address', join(dir, 'none.sock')];
    const [plain, json] = await Promise.all([runCli(args), runCli([...args, '--json'])]);
    assert.equal(plain.code, 3);
    assert.match(plain.stdout, /^FAIL {2}containerd\.reachable .*no socket at/m);
    assert.match(
      plain.stdout,
      /^This host cannot convert images: \d+ ok, \d+ warnings, 1 failures$/m,
    );
    assert.equal(json.code, 3);
    const { convertible, checks } = JSON.parse(json.stdout) as {
      convertible: boolean;
      checks: readonly Check[];
    };
    assert.equal(convertible, false);
    const ids = checks.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    for (const room of [
      'containerd',
      'runc',
      'kernel',
      'cgroup',
      'node',
      'tool',
      'disk',
      'sysctl',
    ]) {
      assert.ok(
        ids.some((id) => id.startsWith(`${room}.`)),
        room,
      );
    }
  } finally {
    await rm(dir, { recursive: true });
  }
});
