import assert from 'node:assert/strict';
import { mkdtempDisposable, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { sha256 } from '../../src/core/digest.ts';
import type { ErrorCode } from '../../src/core/error-catalogue.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import type { AcquiredImage, ImageSource } from '../../src/runtime/pull/acquired-image.ts';
import { rawEnd, rawFile, rawHeader } from '../fixtures/raw-tar.ts';
import { NOTHING, PullHarness } from '../fixtures/registry-harness.ts';
import { json, makeImage, makeIndex, type TestImage } from '../fixtures/registry-images.ts';
import { layoutFiles, writeLayout } from '../fixtures/registry-layout.ts';

type LocalKind = Exclude<ImageSource['kind'], 'registry'>;

async function tempDir(): Promise<{ path: string } & AsyncDisposable> {
  const dir = await mkdtempDisposable(join(tmpdir(), 'builderd-local-'));
  return { path: dir.path, [Symbol.asyncDispose]: () => dir.remove() };
}

function acquire(harness: PullHarness, source: ImageSource): Promise<AcquiredImage> {
  return harness.images.acquire(source, {
    platform: { os: 'linux', architecture: 'amd64' },
    pullPolicy: 'missing',
    signal: AbortSignal.timeout(20_000),
    onProgress: () => undefined,
  });
}

async function expectImage(source: ImageSource, image: TestImage): Promise<void> {
  await using harness = new PullHarness({ allow: '' });
  await using got = await acquire(harness, source);
  assert.deepEqual(got.target, image.target);
  assert.deepEqual(got.manifest, image.manifest);
  for (const layer of got.layers) {
    await using handle = await layer.open(AbortSignal.timeout(60_000));
    assert.equal(sha256(await handle.readFile()), layer.digest);
  }
}

async function expectRefusal(
  source: ImageSource,
  code: ErrorCode,
  message?: RegExp,
): Promise<void> {
  await using harness = new PullHarness({ allow: '' });
  await assert.rejects(acquire(harness, source), (reason: unknown) => {
    assert.ok(isBuilderdError(reason), String(reason));
    assert.equal(reason.code, code, reason.message);
    if (message !== undefined) assert.match(reason.message, message);
    return true;
  });
  assert.deepEqual(harness.leftovers(), NOTHING);
}

/** Writes the members as an archive and hands over its source. */
async function withArchive(
  kind: LocalKind,
  members: readonly Buffer[],
  use: (source: { kind: LocalKind; path: string }) => Promise<void>,
): Promise<void> {
  await using dir = await tempDir();
  const path = join(dir.path, 'image.tar');
  await writeFile(path, Buffer.concat([...members, rawEnd()]));
  await use({ kind, path });
}

const files = (of: Iterable<readonly [string, Buffer]>): Buffer[] =>
  [...of].map(([name, bytes]) => rawFile(bytes, { name }));

test('acquire() reads an OCI layout by its tag, or its only image', async () => {
  await using dir = await tempDir();
  const image = makeIndex([
    { image: makeImage(), platform: { os: 'linux', architecture: 'amd64' } },
    {
      image: makeImage({ architecture: 'arm64' }),
      platform: { os: 'linux', architecture: 'arm64' },
    },
  ]);
  await writeLayout(dir.path, image, 'example.test/app:v1');
  const source = { kind: 'oci-layout', path: dir.path } as const;
  await expectImage(source, image);
  await expectImage({ ...source, tag: 'v1' }, image);
  await expectImage({ ...source, tag: 'example.test/app:v1' }, image);
  await expectRefusal({ ...source, tag: 'v2' }, 'source.not_found', /example\.test\/app:v1/);
});

test('acquire() refuses a layout with a missing, changed or resized blob', async () => {
  const image = makeImage();
  const layer = image.layers[0]?.digest ?? image.target.digest;
  for (const [digest, bytes, code] of [
    [layer, undefined, 'source.not_found'],
    [layer, Buffer.alloc(image.layers[0]?.size ?? 0), 'source.digest_mismatch'],
    [layer, Buffer.alloc(3), 'source.size_mismatch'],
    [image.manifest.digest, Buffer.alloc(image.manifest.size), 'source.digest_mismatch'],
    [image.config.digest, Buffer.alloc(image.config.size), 'source.digest_mismatch'],
  ] as const) {
    await using dir = await tempDir();
    await writeLayout(dir.path, image, 'v1');
    const path = join(dir.path, 'blobs', digest.replace(':', '/'));
    if (bytes === undefined) await rm(path);
    else await writeFile(path, bytes);
    await expectRefusal({ kind: 'oci-layout', path: dir.path }, code);
  }
});

test('acquire() refuses what is no layout', async () => {
  await using dir = await tempDir();
  await expectRefusal({ kind: 'oci-layout', path: join(dir.path, 'none') }, 'source.not_found');
  await writeLayout(dir.path, makeImage(), 'v1');
  await writeFile(join(dir.path, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}');
  await expectRefusal({ kind: 'oci-layout', path: dir.path }, 'source.unsupported');
});

test('acquire() reads an OCI archive in place, whatever the order and spelling of its members', async () => {
  const image = makeImage();
  const members = [...layoutFiles(image, 'v1')].map(
    ([name, bytes]) => [`./${name}`, bytes] as const,
  );
  await withArchive('oci-archive', files(members.toReversed()), (source) =>
    expectImage(source, image),
  );
});

test('acquire() refuses an archive that holds a member twice', async () => {
  const members = files(layoutFiles(makeImage(), 'v1'));
  const again = rawFile('{}', { name: './blobs/../index.json' });
  await withArchive('oci-archive', [...members, again], (source) =>
    expectRefusal(source, 'source.invalid', /twice/),
  );
});

test('acquire() refuses a compressed, truncated or foreign archive', async () => {
  const whole = Buffer.concat([...files(layoutFiles(makeImage(), 'v1')), rawEnd()]);
  await withArchive('oci-archive', [gzipSync(whole)], (source) =>
    expectRefusal(source, 'source.unsupported', /compressed/),
  );
  await using dir = await tempDir();
  const path = join(dir.path, 'x.tar');
  await writeFile(path, whole.subarray(0, whole.length - 2000));
  await expectRefusal({ kind: 'oci-archive', path }, 'archive.malformed');
  await writeFile(path, 'not a tar'.repeat(1000));
  await expectRefusal({ kind: 'oci-archive', path }, 'archive.malformed');
  await writeFile(path, '');
  await expectRefusal({ kind: 'oci-archive', path }, 'source.invalid', /lacks/);
  await expectRefusal({ kind: 'oci-archive', path: '/dev/zero' }, 'source.invalid', /regular/);
  await expectRefusal({ kind: 'oci-archive', path: dir.path }, 'source.invalid', /regular/);
});

/** A docker archive of plain and gzip layers, as `docker save` writes it. */
function dockerMembers(repoTags: readonly string[] = ['app:v1']): {
  members: [string, Buffer][];
  layers: readonly Buffer[];
} {
  const layers = [Buffer.alloc(2048, 'bottom'), gzipSync(Buffer.alloc(4096, 'top'))];
  const config = json({
    os: 'linux',
    architecture: 'amd64',
    rootfs: {
      type: 'layers',
      diff_ids: [sha256(layers[0] ?? ''), sha256(Buffer.alloc(4096, 'top'))],
    },
  });
  const manifest = json([
    { Config: 'config.json', RepoTags: repoTags, Layers: ['one/layer.tar', 'two/layer.tar'] },
  ]);
  return {
    members: [
      ['one/layer.tar', layers[0] ?? Buffer.alloc(0)],
      ['two/layer.tar', layers[1] ?? Buffer.alloc(0)],
      ['config.json', config],
      ['manifest.json', manifest],
    ],
    layers,
  };
}

test('acquire() makes an OCI image of a docker archive, plain and gzip layers', async () => {
  const { members, layers } = dockerMembers();
  await withArchive('docker-archive', files(members), async (source) => {
    for (const tag of [undefined, 'v1', 'app:v1', 'docker.io/library/app:v1']) {
      await using harness = new PullHarness({ allow: '' });
      await using got = await acquire(harness, {
        ...source,
        ...(tag === undefined ? {} : { tag }),
      });
      assert.deepEqual(
        got.layers.map(({ digest, mediaType }) => [digest, mediaType]),
        [
          [sha256(layers[0] ?? ''), 'application/vnd.oci.image.layer.v1.tar'],
          [sha256(layers[1] ?? ''), 'application/vnd.oci.image.layer.v1.tar+gzip'],
        ],
      );
      assert.equal(got.target.digest, got.manifest.digest);
    }
    await expectRefusal({ ...source, tag: 'v2' }, 'source.not_found', /app:v1/);
  });
});

const link = (linkName: string): Buffer =>
  rawHeader({ name: 'two/layer.tar', type: '2', linkName });

test('acquire() follows a symlink to another layer within a docker archive, and never out of it', async () => {
  const { members } = dockerMembers();
  const [one, , ...rest] = members;
  assert.ok(one);
  const build = (linkName: string): Buffer[] => [...files([one, ...rest]), link(linkName)];
  // The bytes are the first layer's, so the second diff ID does not fit them.
  await withArchive('docker-archive', build('../one/layer.tar'), (source) =>
    expectRefusal(source, 'source.digest_mismatch'),
  );
  for (const linkName of ['../../etc/passwd', '/etc/passwd', 'layer.tar', 'none']) {
    await withArchive('docker-archive', build(linkName), (source) =>
      expectRefusal(source, 'source.invalid', /lacks/),
    );
  }
});

test('acquire() refuses a plain layer of a docker archive whose bytes are not its diff ID', async () => {
  const { members } = dockerMembers();
  const changed = members.map(([name, bytes]): [string, Buffer] =>
    name === 'one/layer.tar' ? [name, Buffer.alloc(bytes.length, 'evil')] : [name, bytes],
  );
  await withArchive('docker-archive', files(changed), (source) =>
    expectRefusal(source, 'source.digest_mismatch'),
  );
});

test('acquire() refuses a docker archive with a bad manifest.json', async () => {
  for (const [manifest, code] of [
    ['{}', 'source.invalid'],
    ['[]', 'source.not_found'],
    ['[{"Config":7}]', 'source.invalid'],
    ['[{"Config":"config.json","Layers":"x"}]', 'source.invalid'],
    ['[{"Config":"../../etc/passwd","Layers":[]}]', 'source.invalid'],
    ['[{"Config":"config.json","Layers":[]}]', 'image.bad_config'],
    ['[{"Config":"config.json","Config":"x"}]', 'source.invalid'],
  ] as const) {
    const { members } = dockerMembers();
    const changed = members.map(([name, bytes]): [string, Buffer] =>
      name === 'manifest.json' ? [name, Buffer.from(manifest)] : [name, bytes],
    );
    await withArchive('docker-archive', files(changed), (source) => expectRefusal(source, code));
  }
});
