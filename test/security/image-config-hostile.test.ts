import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import { parseImageConfig } from '../../src/rootfs/image-config/parse-image-config.ts';
import { configDocument, configOf } from '../fixtures/image-config.ts';

const badConfig = (reason: unknown): boolean => {
  assert.ok(isBuilderdError(reason, 'image.bad_config'), String(reason));
  // oxlint-disable-next-line no-control-regex -- that there is none is what is tested
  assert.doesNotMatch(reason.message, /[\u0000-\u001f\u007f-\u009f]/);
  assert.ok(reason.message.length < 600);
  return true;
};

// [row of security.md, what it is, "config" object, fields of the root]
const REFUSED: readonly (readonly [string, string, unknown, Readonly<Record<string, unknown>>?])[] =
  [
    ['A22', 'another rootfs type', {}, { rootfs: { type: 'snapshots', diff_ids: [] } }],
    ['A22', 'no rootfs', {}, { rootfs: null }],
    [
      'A22',
      'a diff ID too many',
      {},
      { rootfs: { type: 'layers', diff_ids: [`sha256:${'a'.repeat(64)}`] } },
    ],
    [
      'A22',
      'diff IDs that are no array',
      {},
      { rootfs: { type: 'layers', diff_ids: { length: 0 } } },
    ],
    ['A23', 'a user above 32 bits', { User: '4294967296' }],
    ['A23', 'a user above 31 bits', { User: '2147483648:0' }],
    ['A23', 'a group above 31 bits', { User: '0:2147483648' }],
    ['A23', 'a negative user', { User: '-1' }],
    ['A23', 'a signed user', { User: '+0' }],
    ['A24', 'a user too big for any number', { User: '9'.repeat(400) }],
    ['A25', 'a user with a line end', { User: 'root\n' }],
    ['A25', 'a user with a blank', { User: 'ro ot' }],
    ['A25', 'three parts', { User: 'a:b:c' }],
    ['A25', 'an empty user part', { User: ':0' }],
    ['A25', 'an empty group part', { User: 'app:' }],
    ['A25', 'a user with a NUL', { User: 'root\0x' }],
    ['A25', 'a user that is no string', { User: 0 }],
    ['A29', 'a NUL in a variable', { Env: ['A=b\0c'] }],
    ['A29', 'a variable of 10 MB', { Env: [`A=${'x'.repeat(3_000_000)}`] }],
    [
      'A29',
      'an environment above 1 MiB',
      { Env: Array.from({ length: 20 }, (_, i) => `A${i}=${'x'.repeat(100_000)}`) },
    ],
    ['A34', 'a working directory under /proc', { WorkingDir: '/proc/self/fd/8' }],
    ['A34', 'one that leads there by ..', { WorkingDir: '/a/../proc/../proc/self/fd/8' }],
    ['A34', 'one that leads there relatively', { WorkingDir: '../../proc/self/cwd' }],
    ['A34', '/sys as the working directory', { WorkingDir: '//sys/' }],
    ['A34', '/dev/fd as the working directory', { WorkingDir: '/./dev/fd/3' }],
    ['A34', 'a NUL in the working directory', { WorkingDir: '/a\0/proc' }],
    ['A34', 'a working directory of 5,000 bytes', { WorkingDir: '/a'.repeat(2500) }],
    ['A35', 'a command that is a string', { Cmd: 'rm -rf /' }],
    ['A35', 'a command of numbers', { Cmd: [1, 2] }],
    ['A35', 'a command with null in it', { Cmd: ['a', null] }],
    ['A35', 'an entrypoint with a NUL', { Entrypoint: ['a\0b'] }],
    ['A35', 'a million items', { Cmd: Array.from({ length: 300_000 }, () => 'x') }],
    ['A36', 'a stop signal that is a number', { StopSignal: 9 }],
    ['A39', 'labels that are an array', { Labels: ['__proto__'] }],
    ['A39', 'a label that is an object', { Labels: { constructor: {} } }],
    ['types', 'ports that are an array', { ExposedPorts: ['80/tcp'] }],
    ['types', 'a health check that is a string', { Healthcheck: 'true' }],
    ['types', 'a fractional interval', { Healthcheck: { Interval: 1.5 } }],
    ['types', 'retries beyond 2^53', { Healthcheck: { Retries: 1e300 } }],
    ['types', 'ArgsEscaped that is a text', { ArgsEscaped: 'yes' }],
    ['types', 'a config that is an array', []],
    ['types', 'no architecture', {}, { architecture: '' }],
    ['types', 'an os that is a number', {}, { os: 1 }],
    ['types', 'a history that is a string', {}, { history: 'x' }],
  ];
for (const [row, name, run, root] of REFUSED) {
  test(`${row}: ${name} is refused`, () => {
    assert.throws(() => configOf(run, root ?? {}), badConfig);
  });
}

test('A22: a diff ID that is no digest is refused', () => {
  const rootfs = { type: 'layers', diff_ids: ['sha256:../../x'] };
  assert.throws(() => configOf({}, { rootfs }, 1), badConfig);
});

test('documents that are no JSON object are refused', () => {
  for (const text of ['', '{', 'null', '[]', '"x"', '{"os":', '[['.repeat(100_000)]) {
    assert.throws(() => parseImageConfig(Buffer.from(text), { layerCount: 0 }), badConfig);
  }
  const notUtf8 = Buffer.concat([Buffer.from('{"os":"'), Buffer.from([0xff]), Buffer.from('"}')]);
  assert.throws(() => parseImageConfig(notUtf8, { layerCount: 0 }), badConfig);
  const large = Buffer.alloc(4 * 1024 * 1024 + 1, ' ');
  assert.throws(() => parseImageConfig(large, { layerCount: 0 }), badConfig);
});

test('A29: malformed variables are dropped and said', () => {
  const config = configOf({ Env: ['NOVALUE', '=x', 'A\nB=c', 'GOOD=1', 'EMPTY='] });
  assert.deepEqual(
    [...config.env],
    [
      ['GOOD', '1'],
      ['EMPTY', ''],
    ],
  );
  assert.equal(config.warnings.length, 3);
});

test('A30: a dangerous variable is data and changes nothing here', () => {
  const before = { ...process.env };
  const config = configOf({ Env: ['LD_PRELOAD=/x.so', 'NODE_OPTIONS=--require=/x', 'PATH=/x'] });
  assert.equal(config.env.get('LD_PRELOAD'), '/x.so');
  assert.deepEqual({ ...process.env }, before);
});

test('A31: labels that containerd acts on are dropped and said', () => {
  const config = configOf({
    Labels: {
      'containerd.io/restart.loguri': 'binary:///bin/sh',
      'io.cri-containerd.image': 'managed',
      'io.containerd.x': 'y',
      'org.example': 'kept',
    },
  });
  assert.deepEqual([...config.labels], [['org.example', 'kept']]);
  assert.equal(config.warnings.length, 3);
});

test('A33: volumes that escape or are relative are dropped and said', () => {
  const config = configOf({ Volumes: { '/../../etc': {}, data: {}, '/a\0b': {}, '/ok': {} } });
  assert.deepEqual(config.volumes, ['/ok']);
  assert.equal(config.warnings.length, 3);
});

test('A36: a stop signal that nobody knows becomes the default and is said', () => {
  for (const text of ['SIGFOO', '9999', '0']) {
    const config = configOf({ StopSignal: text });
    assert.equal(config.stopSignal, undefined);
    assert.match(config.warnings.join(), /SIGTERM is used/);
  }
});

test('A37: build triggers are text that nothing runs', () => {
  assert.deepEqual(configOf({ OnBuild: ['RUN touch /pwned'] }).onBuild, ['RUN touch /pwned']);
});

test('A39: __proto__, constructor and toString are plain keys', () => {
  const document = Buffer.from(
    '{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},' +
      '"__proto__":{"config":{"User":"7"}},' +
      '"config":{"Labels":{"__proto__":"a","constructor":"b","toString":"c"},' +
      '"Env":["__proto__=x"],"__proto__":{"WorkingDir":"/evil"}}}',
  );
  const config = parseImageConfig(document, { layerCount: 0 });
  assert.deepEqual(
    [...config.labels],
    [
      ['__proto__', 'a'],
      ['constructor', 'b'],
      ['toString', 'c'],
    ],
  );
  assert.equal(config.env.get('__proto__'), 'x');
  assert.equal(config.workingDir, '/');
  assert.equal(config.userText, '');
  assert.equal(({} as { WorkingDir?: string }).WorkingDir, undefined);
});

test('any JSON document is answered with a config or image.bad_config', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (run, rootfs) => {
      for (const bytes of [configDocument(run), configDocument({}, { rootfs })]) {
        try {
          parseImageConfig(bytes, { layerCount: 0 });
        } catch (reason) {
          badConfig(reason);
        }
      }
    }),
  );
});

test('any values of the known fields are answered with a config or image.bad_config', () => {
  const value = fc.oneof(fc.jsonValue(), fc.string(), fc.array(fc.string({ unit: 'binary' })));
  const run = fc.record({
    User: value,
    Env: value,
    Cmd: value,
    WorkingDir: value,
    ExposedPorts: value,
    Volumes: value,
    StopSignal: value,
    Labels: value,
    Healthcheck: value,
  });
  fc.assert(
    fc.property(run, (fields) => {
      try {
        const config = configOf(fields);
        assert.match(config.workingDir, /^\//);
        assert.doesNotMatch(config.workingDir, /^\/(?:proc|sys|dev)(?:\/|$)/);
      } catch (reason) {
        badConfig(reason);
      }
    }),
  );
});
