import assert from 'node:assert/strict';
import { mkdtempDisposable, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { loadAddon } from '../../native/addon.ts';
import { buildImage } from '../../src/builds/build-image.ts';
import type { AcquiredImage, ImageRepository, LayerBlob } from '../../src/builds/ports.ts';
import type { BuildRequest, Format } from '../../src/builds/request.ts';
import { systemClock } from '../../src/core/clock.ts';
import { sha256 } from '../../src/core/digest.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { type LayerLies, layerOf } from '../fixtures/memory-layer.ts';
import { rawEnd, rawFile } from '../fixtures/raw-tar.ts';

const TAR = Buffer.concat([
  rawFile('root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n', { name: 'etc/passwd' }),
  rawFile('hello', { name: 'srv/hello' }),
  rawEnd(),
]);

interface Outcome {
  readonly files: readonly string[];
  readonly disposed: number;
  readonly fault: unknown;
  readonly read: (name: string) => Promise<Buffer>;
}

/** One build from a repository that holds one image, into a private directory. */
async function build(
  formats: readonly Format[],
  { user = 'web', lies = {}, before = {}, onOpen = () => {} }: BuildCase,
  check: (outcome: Outcome) => Promise<void>,
): Promise<void> {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-build-'));
  for (const [name, text] of Object.entries(before))
    await writeFile(path.join(dir.path, name), text);
  await using layer = await layerOf(TAR, lies);
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      config: { User: user, Cmd: ['/srv/hello'] },
      rootfs: { type: 'layers', diff_ids: [layer.diffId] },
    }),
  );
  const controller = new AbortController();
  const described = { mediaType: 'application/json', digest: sha256(config), size: config.length };
  let disposed = 0;
  const blob: LayerBlob = {
    ...layer,
    open: (signal) => {
      onOpen(controller);
      return layer.open(signal);
    },
  };
  const image: AcquiredImage = {
    reference: 'example.test/app:1',
    target: described,
    manifest: described,
    configDescriptor: described,
    config,
    platform: { os: 'linux', architecture: 'amd64' },
    layers: [blob],
    async [Symbol.asyncDispose]() {
      disposed++;
    },
  };
  const images: ImageRepository = { acquire: async () => image };
  const output =
    formats.length === 1
      ? { kind: 'file' as const, path: path.join(dir.path, 'out') }
      : { kind: 'directory' as const, path: dir.path };
  const request: BuildRequest = {
    source: { kind: 'registry', reference: 'app:1' },
    platform: image.platform,
    pullPolicy: 'missing',
    formats,
    output,
    ext4: { size: { kind: 'min', extraBytes: 0 }, label: '', journal: false, lostFound: true },
    guestFiles: false,
    devices: 'keep',
  };
  const deps = {
    images,
    addon: loadAddon(),
    limits: DEFAULT_CONVERSION_LIMITS,
    clock: systemClock,
    version: 'test',
  };
  const fault = await buildImage(request, deps, {
    signal: controller.signal,
    onProgress: () => {},
  }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  const files = (await readdir(dir.path)).sort();
  await check({ files, disposed, fault, read: (name) => readFile(path.join(dir.path, name)) });
}

interface BuildCase {
  readonly user?: string;
  readonly lies?: LayerLies;
  readonly before?: Readonly<Record<string, string>>;
  readonly onOpen?: (controller: AbortController) => void;
}

test('buildImage() publishes the artifact with its description, and gives the image back', async () => {
  await build(['ext4'], {}, async ({ files, disposed, fault, read }) => {
    assert.equal(fault, undefined);
    assert.deepEqual(files, ['out', 'out.fidelity.json', 'out.metadata.json']);
    assert.equal(disposed, 1);
    const metadata = JSON.parse(String(await read('out.metadata.json')));
    assert.equal(metadata.artifacts[0].digest, sha256(await read('out')));
    assert.deepEqual([metadata.resolvedUser.uid, metadata.resolvedUser.gid], [33, 34]);
  });
});

test('buildImage() writes several formats into a directory', async () => {
  await build(['ext4', 'tar'], {}, async ({ files, fault }) => {
    assert.equal(fault, undefined);
    assert.deepEqual(files, ['fidelity.json', 'metadata.json', 'rootfs.ext4', 'rootfs.tar']);
  });
});

const FAILURES: [string, BuildCase, string][] = [
  ['a wrong digest', { lies: { digest: sha256('x') } }, 'source.digest_mismatch'],
  ['a wrong diff ID', { lies: { diffId: sha256('x') } }, 'source.digest_mismatch'],
  ['a user that nobody knows', { user: 'nobody-here' }, 'image.bad_config'],
  [
    'a cancel while a layer is opened',
    { onOpen: (controller) => controller.abort() },
    'build.cancelled',
  ],
];

for (const [name, example, code] of FAILURES) {
  test(`buildImage() leaves nothing, and an older artifact untouched, after ${name}`, async () => {
    for (const formats of [['ext4'], ['tar']] as const) {
      await build(formats, { ...example, before: { out: 'older' } }, async (outcome) => {
        assert.ok(isBuilderdError(outcome.fault), String(outcome.fault));
        assert.equal(outcome.fault.code, code);
        assert.deepEqual(outcome.files, ['out']);
        assert.equal(String(await outcome.read('out')), 'older');
        assert.equal(outcome.disposed, 1);
      });
    }
  });
}
