import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256 } from '../../src/core/digest.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import {
  json,
  makeImage,
  makeIndex,
  OCI_INDEX,
  OCI_MANIFEST,
  type TestImage,
} from '../fixtures/registry-images.ts';
import { NOTHING, PullHarness } from '../fixtures/registry-harness.ts';
import { startTestRegistry, type Intercept } from '../fixtures/registry-server.ts';

/** Pulls an image that must be refused; nothing may be left of it. */
async function refuse(
  image: TestImage,
  code: string,
  options: {
    intercept?: Intercept;
    architecture?: string;
    message?: RegExp;
    maxRequests?: number;
  } = {},
): Promise<void> {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({ allow: registry.host });
  registry.publish('a/b', 'v1', image);
  if (options.intercept !== undefined) registry.intercept(options.intercept);
  const pull = harness.pull(`${registry.host}/a/b:v1`, options);
  await assert.rejects(pull, (reason: unknown) => {
    assert.ok(isBuilderdError(reason), String(reason));
    assert.equal(reason.code, code, reason.message);
    if (options.message !== undefined) assert.match(reason.message, options.message);
    return true;
  });
  assert.deepEqual(harness.leftovers(), NOTHING);
  if (options.maxRequests !== undefined) assert.ok(registry.seen.length <= options.maxRequests);
}

/** The image's manifest as other bytes under an honest digest. */
function rewrite(image: TestImage, bytes: Buffer, mediaType = OCI_MANIFEST): TestImage {
  const target = { mediaType, digest: sha256(bytes), size: bytes.length };
  const content = new Map(image.content).set(target.digest, { bytes, mediaType });
  return { ...image, target, manifest: target, content };
}

function manifestWith(change: (manifest: Record<string, unknown>) => unknown): TestImage {
  const image = makeImage();
  const { config, layers } = image;
  return rewrite(
    image,
    json(change({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers })),
  );
}

function tamper(digest: string, bytes: Buffer): Intercept {
  return (request, response) => {
    if (!request.path.endsWith(digest) || request.method !== 'GET') return false;
    response.writeHead(200, { 'content-type': OCI_MANIFEST });
    response.end(bytes);
    return true;
  };
}

function flipped(image: TestImage, digest: string): Buffer {
  const bytes = Buffer.from([...image.content].find(([key]) => key === digest)?.[1].bytes ?? []);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
  return bytes;
}

test('A1 a manifest that hashes differently is source.digest_mismatch and leaves nothing', async () => {
  const image = makeImage();
  const { digest } = image.manifest;
  await refuse(image, 'source.digest_mismatch', {
    intercept: tamper(digest, flipped(image, digest)),
    maxRequests: 2,
  });
});

test('A2 a layer that hashes differently at its end leaves nothing', async () => {
  const image = makeImage();
  const digest = image.layers[1]?.digest ?? '';
  await refuse(image, 'source.digest_mismatch', {
    intercept: tamper(digest, flipped(image, digest)),
  });
});

test('A2 a config that hashes differently leaves nothing', async () => {
  const image = makeImage();
  const { digest } = image.config;
  await refuse(image, 'source.digest_mismatch', {
    intercept: tamper(digest, flipped(image, digest)),
  });
});

test('A4 a manifest or layer longer than its descriptor is source.size_mismatch', async () => {
  const image = makeImage();
  for (const { digest } of [image.manifest, ...image.layers]) {
    const bytes = image.content.get(digest)?.bytes ?? Buffer.alloc(0);
    const longer: Intercept = (request, response) => {
      if (!request.path.endsWith(digest) || request.method !== 'GET') return false;
      // Chunked: no length gives it away.
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      response.write(bytes);
      response.end('x');
      return true;
    };
    await refuse(image, 'source.size_mismatch', { intercept: longer });
  }
});

test('A5 a layer that ends early is resumed once by range, then source.size_mismatch', async () => {
  const image = makeImage();
  const layer = image.layers[0];
  assert.ok(layer);
  const bytes = image.content.get(layer.digest)?.bytes ?? Buffer.alloc(0);
  const ranges: (string | undefined)[] = [];
  const short: Intercept = (request, response) => {
    if (!request.path.endsWith(layer.digest)) return false;
    ranges.push(request.headers.range);
    const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
    const end = Math.min(from + 10, bytes.length - 1);
    response.writeHead(from === 0 ? 200 : 206, {
      'content-range': `bytes ${from}-${end - 1}/${bytes.length}`,
    });
    response.end(bytes.subarray(from, end));
    return true;
  };
  await refuse(image, 'source.size_mismatch', { intercept: short });
  assert.deepEqual(ranges, [undefined, 'bytes=10-']);
});

for (const size of [-1, 1.5, '7', 2 ** 53, 1e300, null]) {
  test(`A6 a layer size of ${JSON.stringify(size)} is refused at parse`, async () => {
    const image = manifestWith((manifest) => ({
      ...manifest,
      layers: [{ mediaType: makeImage().layers[0]?.mediaType, digest: sha256('x'), size }],
    }));
    await refuse(image, 'source.invalid', { maxRequests: 2 });
  });
}

test('A7 a config of many GB is refused before it is asked for', async () => {
  const image = manifestWith((manifest) => ({
    ...manifest,
    config: { ...makeImage().config, size: 9e9 },
  }));
  await refuse(image, 'source.too_large', { maxRequests: 2 });
});

test('A8 a manifest above 4 MiB is refused by its declared size', async () => {
  const image = manifestWith((manifest) => ({
    ...manifest,
    annotations: { x: 'y'.repeat(5_000_000) },
  }));
  await refuse(image, 'source.too_large', { maxRequests: 1 });
});

const endless: Intercept = (request, response) => {
  if (request.method === 'HEAD') {
    response.writeHead(405);
    response.end();
    return true;
  }
  response.writeHead(200, { 'content-type': OCI_MANIFEST });
  const timer = setInterval(() => response.write(Buffer.alloc(256 * 1024, ' ')), 1);
  response.on('close', () => clearInterval(timer));
  return true;
};

test('A8 a manifest above 4 MiB is refused while it is read when nothing declares its size', async () => {
  await refuse(makeImage(), 'source.too_large', { intercept: endless });
});

test('A9 JSON nested 100,000 deep is source.invalid', async () => {
  const deep = `{"schemaVersion":2,"layers":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
  await refuse(rewrite(makeImage(), Buffer.from(deep)), 'source.invalid', {
    message: /nested deeper/,
  });
});

test('A10 duplicate keys, and keys that differ in case only, are refused', async () => {
  const { config, layers } = makeImage();
  const base = JSON.stringify({ schemaVersion: 2, config, layers }).slice(0, -1);
  for (const extra of [',"layers":[]}', ',"Layers":[]}', ',"layer\\u017f":[]}']) {
    await refuse(rewrite(makeImage(), Buffer.from(base + extra)), 'source.invalid', {
      message: /twice/,
    });
  }
});

test('A10 a key that only Go would take for layers is refused', async () => {
  const { config, layers } = makeImage();
  await refuse(
    rewrite(makeImage(), json({ schemaVersion: 2, config, Layers: layers })),
    'source.invalid',
  );
});

test('A11 a document that is both an index and a manifest is refused as ambiguous', async () => {
  await refuse(
    manifestWith((manifest) => ({ ...manifest, manifests: [] })),
    'source.invalid',
    { message: /ambiguous/ },
  );
});

test('A11 a document that calls itself otherwise than it was delivered is refused', async () => {
  await refuse(
    manifestWith((manifest) => ({ ...manifest, mediaType: OCI_INDEX })),
    'source.invalid',
  );
  const image = makeImage();
  const bytes = image.content.get(image.manifest.digest)?.bytes ?? Buffer.alloc(0);
  await refuse(rewrite(image, bytes, OCI_INDEX), 'source.invalid');
});

test('A11 an answer to GET with another document type than the HEAD promised is refused', async () => {
  const image = makeImage();
  const lies: Intercept = (request, response) => {
    if (request.method !== 'GET' || !request.path.includes('/manifests/')) return false;
    response.writeHead(200, { 'content-type': OCI_INDEX });
    response.end(image.content.get(image.manifest.digest)?.bytes);
    return true;
  };
  await refuse(image, 'source.invalid', { intercept: lies });
});

function nested(levels: number): TestImage {
  let image = makeImage();
  for (let level = 0; level < levels; level += 1) image = makeIndex([{ image }]);
  return image;
}

test('A12 indexes nested 3 deep are read, 4 and 50 deep are refused', async () => {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({ allow: registry.host });
  registry.publish('a/b', 'v1', nested(3));
  await using image = await harness.pull(`${registry.host}/a/b:v1`);
  assert.equal(image.layers.length, 2);
  await refuse(nested(4), 'source.invalid', { message: /nested deeper than 3/ });
  await refuse(nested(50), 'source.invalid', { maxRequests: 6 });
});

test('A12 an index that lists the same index again does not loop', async () => {
  const inner = makeIndex([
    { image: makeImage(), platform: { os: 'linux', architecture: 's390x' } },
  ]);
  const outer = makeIndex([{ image: inner }, { image: inner }, { image: inner }]);
  await refuse(outer, 'image.platform_mismatch', { maxRequests: 3 });
});

test('A13 an index with 100,000 entries is refused by the cap', async () => {
  const { target } = makeImage();
  const bytes = json({ schemaVersion: 2, manifests: Array.from({ length: 1001 }, () => target) });
  await refuse(rewrite(makeImage(), bytes, OCI_INDEX), 'source.too_large', { maxRequests: 2 });
  const huge = json({ schemaVersion: 2, manifests: Array.from({ length: 100_000 }, () => 0) });
  await refuse(rewrite(makeImage(), huge, OCI_INDEX), 'source.too_large', { maxRequests: 2 });
});

test('A14 a platform that the index lacks is image.platform_mismatch with what it offers', async () => {
  const index = makeIndex([
    {
      image: makeImage({ architecture: 'arm64' }),
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    },
    {
      image: makeImage({ architecture: 's390x' }),
      platform: { os: 'linux', architecture: 's390x' },
    },
  ]);
  await refuse(index, 'image.platform_mismatch', { message: /linux\/arm64, linux\/s390x/ });
  await refuse(makeImage({ architecture: 'arm64' }), 'image.platform_mismatch', {
    message: /linux\/arm64/,
  });
});

test('A14 an index that says amd64 over a config that says arm64 is image.platform_mismatch', async () => {
  const platform = { os: 'linux', architecture: 'amd64' };
  const index = makeIndex([{ image: makeImage({ architecture: 'arm64' }), platform }]);
  await refuse(index, 'image.platform_mismatch', { message: /disagree/ });
});

test('A15 unknown/unknown attestations are skipped, even when they come first', async () => {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({ allow: registry.host });
  const real = makeImage();
  const attestation = makeImage({ layers: [Buffer.from('attestation')], architecture: 'unknown' });
  const index = makeIndex([
    { image: attestation, platform: { os: 'unknown', architecture: 'unknown' } },
    { image: real, platform: { os: 'linux', architecture: 'amd64' } },
  ]);
  registry.publish('a/b', 'v1', index);
  await using image = await harness.pull(`${registry.host}/a/b:v1`);
  assert.deepEqual(image.manifest, real.manifest);
  assert.equal(
    registry.seen.some((each) => each.path.endsWith(attestation.manifest.digest)),
    false,
  );
});

for (const mediaType of [
  'application/vnd.oci.image.layer.v1.tar+encrypted',
  'application/vnd.wasm.content.layer.v1+wasm',
  'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  'application/vnd.erofs.layer.v1',
]) {
  const id = mediaType.includes('erofs') ? 'A18' : 'A16';
  test(`${id} a layer of type ${mediaType} is source.unsupported and named`, async () => {
    const layer = { mediaType, digest: sha256('x'), size: 1 };
    const image = manifestWith((manifest) => ({ ...manifest, layers: [layer] }));
    await refuse(image, 'source.unsupported', { message: new RegExp(RegExp.escape(mediaType)) });
  });
}

test('A17 the declared packing of a layer is only a hint: the bytes are stored as they are', async () => {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({ allow: registry.host });
  const made = makeImage();
  registry.publish('a/b', 'v1', made);
  await using image = await harness.pull(`${registry.host}/a/b:v1`);
  for (const layer of image.layers) {
    await using handle = await layer.open(AbortSignal.timeout(60_000));
    assert.equal(sha256(await handle.readFile()), layer.digest);
  }
});

test('A19 a foreign layer with urls is refused and its address never asked', async () => {
  await using other = await startTestRegistry();
  const image = makeImage();
  const layers = [{ ...image.layers[0], urls: [`http://${other.host}/blob`] }];
  await refuse(
    manifestWith((manifest) => ({ ...manifest, layers })),
    'source.unsupported',
    { message: /foreign/ },
  );
  assert.deepEqual(other.seen, []);
});

const withData = (data: string): TestImage =>
  manifestWith((manifest) => ({ ...manifest, config: { ...makeImage().config, data } }));

test('A20 embedded data above 64 KiB is refused, smaller data is not used', async () => {
  await refuse(withData('A'.repeat(70_000)), 'source.invalid', { message: /embeds/ });
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({ allow: registry.host });
  registry.publish('a/b', 'v1', withData(Buffer.from('{"os":"evil"}').toString('base64')));
  await using image = await harness.pull(`${registry.host}/a/b:v1`);
  assert.equal(image.platform.os, 'linux');
});

const HEX = 'ab'.repeat(32);
for (const digest of [
  'sha256:../../x',
  `sha256:${HEX.toUpperCase()}`,
  `sha256:${HEX}00`,
  `md5:${HEX.slice(32)}`,
  `blake3:${HEX}`,
  `sha256:${HEX}\n`,
  '',
  7,
]) {
  test(`A21 the digest ${JSON.stringify(digest).slice(0, 30)} is refused by form`, async () => {
    const layer = { ...makeImage().layers[0], digest };
    await refuse(
      manifestWith((manifest) => ({ ...manifest, layers: [layer] })),
      'source.invalid',
      { maxRequests: 2 },
    );
  });
}

test('A22 a rootfs that is not layers, or has another number of diff_ids, is image.bad_config', async () => {
  const rootfs = { type: 'layers', diff_ids: [sha256('x')] };
  await refuse(makeImage({ config: { rootfs } }), 'image.bad_config', {
    message: /1 diff_ids for 2 layers/,
  });
  await refuse(
    makeImage({ config: { rootfs: { ...rootfs, type: 'merged' } } }),
    'image.bad_config',
  );
  await refuse(makeImage({ config: { rootfs: undefined } }), 'image.bad_config');
  const bad = { type: 'layers', diff_ids: ['sha256:../x', sha256('x')] };
  await refuse(makeImage({ config: { rootfs: bad } }), 'image.bad_config');
});

test('A35 Entrypoint, Cmd and Env that are no lists of clean strings are image.bad_config', async () => {
  for (const config of [
    { Entrypoint: '/bin/sh' },
    { Cmd: [1] },
    { Cmd: ['a\0b'] },
    { Env: { PATH: '/bin' } },
    { Cmd: Array.from({ length: 1_000_000 }, () => 0) },
  ]) {
    await refuse(makeImage({ config: { config } }), 'image.bad_config');
  }
});

test('A41 a tag that moves between resolve and pull gives the image that was resolved', async () => {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({ allow: registry.host });
  const first = makeImage();
  registry.publish('a/b', 'v1', first);
  registry.intercept((request) => {
    // As soon as the tag was resolved, it means something else.
    if (request.method === 'GET')
      registry.publish('a/b', 'v1', makeImage({ layers: [Buffer.from('other')] }));
    return false;
  });
  await using image = await harness.pull(`${registry.host}/a/b:v1`);
  assert.deepEqual(image.target, first.target);
  assert.equal(registry.seen.filter((each) => each.path.endsWith('/v1')).length, 1);
});

for (const reference of [
  'debian bookworm',
  'ghcr.io/Debian/x',
  '-flag',
  '--help',
  'user:secret@host/a',
  'https://host/a',
  `a/${'b'.repeat(10_000)}`,
  `host/${'b'.repeat(250)}`,
  'gһcr.io/a',
  'host:0/a',
  'host:70000/a',
  'a//b',
  'a/../b',
  'a:',
  'a@sha256:zz',
  'a@b@c',
  '',
  'fe80::1%eth0/a',
]) {
  test(`A44 the reference ${JSON.stringify(reference).slice(0, 40)} is refused and its secret not shown`, async () => {
    await using harness = new PullHarness({ allow: '' });
    await assert.rejects(harness.pull(reference), (reason: unknown) => {
      assert.ok(isBuilderdError(reason, 'source.invalid'), String(reason));
      assert.doesNotMatch(reason.message, /secret/);
      return true;
    });
    assert.deepEqual(harness.leftovers(), NOTHING);
  });
}

test('A45 a Docker schema 1 manifest is source.unsupported', async () => {
  const type = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
  const bytes = json({ schemaVersion: 1, name: 'a/b', tag: 'v1', fsLayers: [], history: [] });
  await refuse(rewrite(makeImage(), bytes, type), 'source.unsupported', { message: /schema 1/ });
  await refuse(rewrite(makeImage(), bytes), 'source.unsupported', { message: /schema 1/ });
});

test('A40 a manifest with 128 layers is refused with the limit', async () => {
  const layer = makeImage().layers[0];
  const layers = Array.from({ length: 128 }, () => layer);
  await refuse(
    manifestWith((manifest) => ({ ...manifest, layers })),
    'source.too_large',
    { message: /limit is 127/ },
  );
});
