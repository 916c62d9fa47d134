import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  outputName,
  parseBuildRequest,
  parsePlatform,
  parseSizePolicy,
  parseTimeout,
  type RawBuildOptions,
} from '../../src/cli/build-options.ts';
import { parseConfig, type Environment } from '../../src/cli/config.ts';
import { parseSource } from '../../src/sources/parse-source.ts';

const DEFAULTS: RawBuildOptions = {
  format: 'ext4',
  size: 'min+64M',
  lostFound: true,
  devices: 'keep',
  progress: 'auto',
};

function request(
  raw: Partial<RawBuildOptions> = {},
  env: Environment = {},
  source = 'debian:12',
): ReturnType<typeof parseBuildRequest> {
  return parseBuildRequest(source, { ...DEFAULTS, ...raw }, parseConfig(env), 'x64');
}

test('parseBuildRequest() fills in what nobody said', () => {
  assert.deepEqual(request(), {
    source: { kind: 'registry', reference: 'debian:12' },
    platform: { os: 'linux', architecture: 'amd64' },
    pullPolicy: 'missing',
    formats: ['ext4'],
    output: { kind: 'file', path: 'debian-12.ext4' },
    ext4: {
      size: { kind: 'min', extraBytes: 64 * 1024 ** 2 },
      label: '',
      journal: false,
      lostFound: true,
    },
    guestFiles: false,
    devices: 'keep',
  });
});

test('parseBuildRequest() takes patterns and presets, and tells a bad pattern at once', () => {
  const { filter } = request({ exclude: ['a', '**/b'], preserve: ['c'], removeDocs: true });
  assert.deepEqual(filter, {
    exclude: ['a', '**/b'],
    preserve: ['c'],
    removeDocs: true,
    removeCache: false,
  });
  for (const raw of [{ exclude: ['/a'] }, { preserve: ['../a'] }]) {
    assert.throws(() => request(raw), { code: 'usage.invalid' });
  }
});

test('parseBuildRequest() takes every option', () => {
  const found = request({
    format: 'tar,ext4',
    output: 'out/',
    platform: 'linux/arm/v7',
    pull: 'never',
    size: '2G',
    label: 'root',
    uuid: '01234567-89ab-cdef-0123-456789ABCDEF',
    journal: true,
    lostFound: false,
    guestInit: '/x',
    devices: 'drop',
    sourceDateEpoch: '0',
  });
  assert.deepEqual(found, {
    source: { kind: 'registry', reference: 'debian:12' },
    platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
    pullPolicy: 'never',
    formats: ['tar', 'ext4'],
    output: { kind: 'directory', path: 'out/' },
    ext4: {
      size: { kind: 'fixed', bytes: 2 * 1024 ** 3 },
      label: 'root',
      uuid: Buffer.from('0123456789abcdef0123456789abcdef', 'hex'),
      journal: true,
      lostFound: false,
    },
    guestFiles: true,
    devices: 'drop',
    sourceDateEpoch: 0,
  });
});

test('parseBuildRequest() takes settings of the environment below options', () => {
  const env = { UNKEY_BUILDERD_DOCKER_PULL_POLICY: 'always', SOURCE_DATE_EPOCH: '5' };
  assert.equal(request({}, env).pullPolicy, 'always');
  assert.equal(request({}, env).sourceDateEpoch, 5);
  assert.equal(request({ pull: 'missing', sourceDateEpoch: '6' }, env).pullPolicy, 'missing');
  assert.equal(request({ sourceDateEpoch: '6' }, env).sourceDateEpoch, 6);
});

const BAD: readonly (readonly [Partial<RawBuildOptions>, RegExp])[] = [
  [{ format: 'qcow2' }, /--format "qcow2": want ext4, tar/],
  [{ format: 'ext4,ext4' }, /each format once/],
  [{ format: '' }, /--format/],
  [{ platform: 'arm64' }, /os\/arch/],
  [{ platform: 'linux/arm64/v8/x' }, /os\/arch/],
  [{ platform: 'linux/../x' }, /os\/arch/],
  [{ pull: 'maybe' }, /always, missing, never/],
  [{ size: 'max' }, /--size/],
  [{ size: '0' }, /--size/],
  [{ size: '-5' }, /--size/],
  [{ size: 'min+' }, /--size/],
  [{ size: '99999999999999T' }, /--size/],
  [{ label: 'ä'.repeat(9) }, /16 bytes/],
  [{ uuid: 'x' }, /UUID/],
  [{ sourceDateEpoch: '-1' }, /whole seconds/],
  [{ sourceDateEpoch: '15032385536' }, /whole seconds/],
  [{ sourceDateEpoch: 'now' }, /whole seconds/],
  [{ output: '' }, /a path/],
  [{ output: 'out/' }, /name of a file/],
  [{ output: '..' }, /name of a file/],
  [{ output: 'a\0b' }, /a path/],
];
for (const [raw, message] of BAD) {
  test(`parseBuildRequest() refuses ${JSON.stringify(raw)}`, () => {
    assert.throws(() => request(raw), { code: 'usage.invalid', message });
  });
}

test('parseBuildRequest() says what is not supported', () => {
  assert.throws(() => request({ tenant: 'a' }), { code: 'not_supported' });
  assert.throws(() => request({ platform: 'windows/amd64' }), { code: 'not_supported' });
});

test('parsePlatform() knows the other names of architectures', () => {
  assert.equal(parsePlatform('linux/x86_64').architecture, 'amd64');
  assert.equal(parsePlatform('linux/aarch64').architecture, 'arm64');
});

test('parseSizePolicy() reads min, min+N and N', () => {
  assert.deepEqual(parseSizePolicy('min'), { kind: 'min', extraBytes: 0 });
  assert.deepEqual(parseSizePolicy('min+1GiB'), { kind: 'min', extraBytes: 1024 ** 3 });
  assert.deepEqual(parseSizePolicy('500MB'), { kind: 'fixed', bytes: 500_000_000 });
});

test('parseTimeout() has no limit unless somebody asks for one', () => {
  assert.equal(parseTimeout(DEFAULTS, parseConfig({})), undefined);
  const env = { UNKEY_BUILDERD_BUILD_TIMEOUT: '2m' };
  assert.equal(parseTimeout(DEFAULTS, parseConfig(env)), 120_000);
  assert.equal(parseTimeout({ ...DEFAULTS, timeout: '5s' }, parseConfig(env)), 5000);
  assert.throws(() => parseTimeout({ ...DEFAULTS, timeout: '5' }, parseConfig({})), {
    code: 'usage.invalid',
  });
});

test('outputName() makes a plain file name of any source', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['debian', 'debian'],
    ['ghcr.io/org/app:1.2', 'app-1.2'],
    [`app@sha256:${'0'.repeat(64)}`, 'app'],
    ['localhost:5000/a', 'a'],
    ['oci:./layout/:v1', 'v1'],
    ['oci:layout', 'layout'],
    ['docker-archive:/tmp/app.tar', 'app'],
    ['docker-archive:/tmp/app.docker.tar', 'app'],
    ['docker-archive:x.tar:repo/name:tag', 'name-tag'],
    ['oci:..', 'rootfs'],
  ];
  for (const [source, want] of cases) assert.equal(outputName(parseSource(source)), want, source);
});
