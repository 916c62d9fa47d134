import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesFrom } from '../../src/core/bytes.ts';
import { sha256 } from '../../src/core/digest.ts';
import { buildMetadata, type MetadataInput } from '../../src/rootfs/image-config/build-metadata.ts';
import { stableJson, type JsonValue } from '../../src/rootfs/image-config/stable-json.ts';
import { configOf } from '../fixtures/image-config.ts';

const descriptor = (name: string): MetadataInput['target'] => ({
  mediaType: `application/${name}`,
  digest: sha256(name),
  size: name.length,
});

function input(run: unknown = {}): MetadataInput {
  return {
    builderdVersion: '1.2.3',
    reference: 'docker.io/library/debian:12',
    target: descriptor('index'),
    manifest: descriptor('manifest'),
    configDescriptor: descriptor('config'),
    platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    layers: [{ ...descriptor('layer'), diffId: sha256('diff') }],
    config: configOf(run),
    user: {
      uid: 7,
      gid: 8,
      additionalGids: [8, 9],
      name: bytesFrom(Buffer.from([0x61, 0xff])),
      home: bytesFrom(Buffer.from('/h')),
    },
    counts: { entries: 4, inodes: 3, directories: 2, contentBytes: 10, contentBlocks: 1 },
    artifacts: [{ format: 'ext4', file: 'x.ext4', sizeBytes: 4096, digest: sha256('x') }],
    guestFiles: false,
    startedAt: new Date('2026-01-02T03:04:05Z'),
    finishedAt: new Date('2026-01-02T03:04:06.5Z'),
  };
}

test('buildMetadata() tells what the guest runs from what the image says', () => {
  const image = input({ Entrypoint: ['/e'], Cmd: ['x'], Env: ['A=1'], WorkingDir: '/w' });
  const runtime = { command: ['y'], workingDir: '/v', env: { A: '2' }, exposedPorts: ['80'] };
  const parsed = JSON.parse(buildMetadata({ ...image, runtime }));
  assert.deepEqual(
    [parsed.entrypoint, parsed.command, parsed.working_dir, parsed.env, parsed.exposed_ports],
    [['/e'], ['y'], '/v', { A: '2' }, ['80/tcp']],
  );
  const { Entrypoint, Cmd, Env, WorkingDir, ExposedPorts } = parsed.config;
  assert.deepEqual(
    [Entrypoint, Cmd, Env, WorkingDir, ExposedPorts],
    [['/e'], ['x'], ['A=1'], '/w', []],
  );
  assert.deepEqual(parsed.runtime, runtime);
  assert.equal(JSON.parse(buildMetadata(image)).runtime, undefined);
});

test('buildMetadata() holds the source, the config with numeric users, the artifacts and the times', () => {
  const text = buildMetadata(input({ User: 'app', Cmd: ['x'], Env: ['Z=1', 'A=2'] }));
  const parsed = JSON.parse(text);
  assert.equal(text.endsWith('}\n'), true);
  assert.deepEqual(parsed.source, {
    reference: 'docker.io/library/debian:12',
    digest: sha256('index'),
    mediaType: 'application/index',
  });
  assert.deepEqual(parsed.platform, { os: 'linux', architecture: 'arm64', variant: 'v8' });
  assert.deepEqual(parsed.layers, [
    {
      mediaType: 'application/layer',
      digest: sha256('layer'),
      sizeBytes: 5,
      diffId: sha256('diff'),
    },
  ]);
  assert.deepEqual(parsed.resolvedUser, {
    uid: 7,
    gid: 8,
    additionalGids: [8, 9],
    name: 'a\\xff',
    home: '/h',
  });
  assert.equal(parsed.config.User, 'app');
  assert.deepEqual(parsed.config.Env, ['Z=1', 'A=2']);
  assert.deepEqual(parsed.artifacts, [
    { format: 'ext4', file: 'x.ext4', sizeBytes: 4096, digest: sha256('x') },
  ]);
  assert.deepEqual(parsed.times, {
    started: '2026-01-02T03:04:05.000Z',
    finished: '2026-01-02T03:04:06.500Z',
  });
});

test('buildMetadata() keeps the keys of the first builderd', () => {
  const run = {
    Entrypoint: ['/e'],
    Cmd: ['c'],
    WorkingDir: '/w',
    Env: ['B=2', 'A=1'],
    ExposedPorts: { '80/tcp': {}, '7000-7001/udp': {} },
    Volumes: { '/v': {} },
    Labels: { k: 'v' },
  };
  const parsed = JSON.parse(buildMetadata(input(run)));
  assert.equal(parsed.original_image, 'docker.io/library/debian:12');
  assert.equal(parsed.image_digest, sha256('index'));
  assert.deepEqual(parsed.command, ['c']);
  assert.deepEqual(parsed.entrypoint, ['/e']);
  assert.equal(parsed.working_dir, '/w');
  assert.deepEqual(parsed.env, { A: '1', B: '2' });
  assert.deepEqual(parsed.exposed_ports, ['80/tcp', '7000-7001/udp']);
  assert.equal(parsed.user, '7:8');
  assert.deepEqual(parsed.volumes, ['/v']);
  assert.deepEqual(parsed.labels, { k: 'v' });
});

test('buildMetadata() gives equal bytes for equal input, in whatever order maps were written', () => {
  const one = buildMetadata(input({ Labels: { a: '1', b: '2' }, Volumes: { '/a': {}, '/b': {} } }));
  const two = buildMetadata(input({ Volumes: { '/b': {}, '/a': {} }, Labels: { b: '2', a: '1' } }));
  assert.equal(one, two);
});

test('stableJson() writes what JSON.parse reads back, with foreign keys as plain data', () => {
  const tree = fc.letrec<{ value: JsonValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.string({ unit: 'binary' }),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('value'), { maxLength: 4 }),
      fc
        .array(fc.tuple(fc.oneof(fc.string(), fc.constant('__proto__')), tie('value')), {
          maxLength: 4,
        })
        .map((entries) => new Map(entries)),
    ),
  })).value;
  fc.assert(
    fc.property(tree, (value) => {
      const parsed: unknown = JSON.parse(stableJson(value));
      assert.deepEqual(toMaps(parsed), value);
    }),
  );
});

/** JSON objects as Maps, so that `__proto__` can be compared. */
function toMaps(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toMaps);
  if (typeof value !== 'object' || value === null) return value;
  return new Map(Object.entries(value).map(([key, item]) => [key, toMaps(item)]));
}
