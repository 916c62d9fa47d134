import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSpec } from '../../src/builds/service/builds/check-spec.ts';
import { parseBuildSpec } from '../../src/builds/parse-build-spec.ts';
import { sha256 } from '../../src/core/digest.ts';
import { containerCmd, containerEnv } from '../../src/rootfs/guest/guest-documents.ts';
import {
  checkRuntime,
  describeRuntime,
  type RuntimeOverrides,
  withRuntime,
} from '../../src/rootfs/image-config/runtime-overrides.ts';
import { stableJson } from '../../src/rootfs/image-config/stable-json.ts';
import { parseRuntime } from '../../src/cli/runtime-options.ts';
import { configOf } from '../fixtures/image-config.ts';

const IMAGE = configOf({
  Entrypoint: ['/entry'],
  Cmd: ['serve'],
  Env: ['A=1', 'B=2'],
  WorkingDir: '/srv',
  ExposedPorts: { '80/tcp': {}, '81/udp': {} },
});

test('withRuntime() leaves what a build does not name as the image has it', () => {
  assert.deepEqual(withRuntime(IMAGE), IMAGE);
  assert.deepEqual(withRuntime(IMAGE, {}), IMAGE);
});

test('withRuntime() replaces lists, joins variables, and leaves the image alone', () => {
  const before = structuredClone(IMAGE);
  const found = withRuntime(IMAGE, {
    command: ['work'],
    workingDir: '/data/../app/',
    env: { B: '3', C: '4' },
    exposedPorts: ['8080', '53/udp', '8080'],
  });
  assert.deepEqual([found.entrypoint, found.cmd, found.workingDir], [['/entry'], ['work'], '/app']);
  assert.deepEqual(
    [...found.env],
    [
      ['A', '1'],
      ['B', '3'],
      ['C', '4'],
    ],
  );
  assert.deepEqual(
    found.exposedPorts.map(({ port, protocol }) => [port, protocol]),
    [
      [53, 'udp'],
      [8080, 'tcp'],
    ],
  );
  assert.deepEqual(IMAGE, before);
});

test('withRuntime() does not hand the old arguments to a new entrypoint', () => {
  assert.deepEqual(withRuntime(IMAGE, { entrypoint: ['/sh'] }).cmd, []);
  assert.deepEqual(withRuntime(IMAGE, { entrypoint: ['/sh'], command: ['-c'] }).cmd, ['-c']);
  assert.deepEqual(withRuntime(IMAGE, { command: [] }).cmd, []);
});

test('the documents of the guest say what the build wants of it', () => {
  const config = withRuntime(IMAGE, {
    entrypoint: ['/sh'],
    command: ['-c', 'true'],
    workingDir: '/app',
    env: { B: 'own' },
    exposedPorts: ['9000'],
  });
  assert.deepEqual(JSON.parse(containerCmd(config).toString()), ['/sh', '-c', 'true']);
  const user = { uid: 0, gid: 0, additionalGids: [0] };
  const document = JSON.parse(containerEnv({ config, user, imageDigest: sha256('x') }).toString());
  assert.equal(document.working_dir, '/app');
  assert.deepEqual([document.env.A, document.env.B], ['1', 'own']);
  assert.deepEqual(document.exposed_ports, ['9000']);
});

test('describeRuntime() gives equal bytes for variables in any order', () => {
  const one = describeRuntime({ env: { B: '1', A: '2' }, command: ['x'] });
  const two = describeRuntime({ command: ['x'], env: { A: '2', B: '1' } });
  assert.equal(stableJson(one), stableJson(two));
});

const REFUSED: readonly (readonly [string, RuntimeOverrides])[] = [
  ['a line end in an argument', { command: ['a\nb'] }],
  ['a NUL in an argument', { entrypoint: ['a\0'] }],
  ['half a character', { env: { A: '\ud800' } }],
  ['an escape sequence in a value', { env: { A: '\u001b[2J' } }],
  ['an empty program', { entrypoint: [''] }],
  ['a variable without a name', { env: { '': 'x' } }],
  ['a variable with = in its name', { env: { 'A=B': 'x' } }],
  ['a variable that begins with a digit', { env: { '1A': 'x' } }],
  ['a variable with a long name', { env: { ['A'.repeat(129)]: 'x' } }],
  ['a working directory that is not absolute', { workingDir: 'srv' }],
  ['an empty working directory', { workingDir: '' }],
  ['a working directory below /proc', { workingDir: '/proc/self/fd/8' }],
  ['a working directory that leads to /sys', { workingDir: '/a/../sys' }],
  ['port 0', { exposedPorts: ['0'] }],
  ['a port with a name', { exposedPorts: ['http'] }],
  ['a port of another protocol', { exposedPorts: ['80/quic'] }],
  ['257 words', { command: Array.from({ length: 257 }, () => 'a') }],
  ['a word of 4,097 characters', { command: ['a'.repeat(4097)] }],
  ['64 KiB in all', { command: Array.from({ length: 17 }, () => 'a'.repeat(4096)) }],
];
for (const [what, runtime] of REFUSED) {
  test(`a build cannot have ${what}`, () => {
    assert.throws(() => checkRuntime(runtime), { code: 'usage.invalid' });
    const body = { source: { image: { reference: 'a' } }, target: { runtime } };
    assert.throws(() => checkSpec(parseBuildSpec(body)), { code: 'api.invalid' });
  });
}

test('a build cannot have a variable that is no data to JavaScript', () => {
  const env: Record<string, string> = JSON.parse('{"__proto__":"x"}');
  assert.throws(() => checkRuntime({ env }), { code: 'usage.invalid' });
});

test('the options of the command lines say what the guest runs', () => {
  assert.equal(parseRuntime({}), undefined);
  assert.deepEqual(
    parseRuntime({
      entrypoint: ['/bin/sh'],
      command: ['-c', 'echo a=b'],
      workingDir: '/srv',
      env: ['A=b=c', 'discovery.type=single-node'],
      expose: ['80'],
    }),
    {
      entrypoint: ['/bin/sh'],
      command: ['-c', 'echo a=b'],
      workingDir: '/srv',
      env: { A: 'b=c', 'discovery.type': 'single-node' },
      exposedPorts: ['80'],
    },
  );
  assert.throws(() => parseRuntime({ env: ['A'] }), { code: 'usage.invalid' });
  assert.throws(() => parseRuntime({ workingDir: 'x' }), { code: 'usage.invalid' });
});
