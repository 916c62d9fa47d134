import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startRegistry } from '../../contrib/dev/loopback-registry.ts';
import { sha256 } from '../../src/core/digest.ts';
import { parseEgressAllow } from '../../src/egress/allow-list.ts';
import { createDialer } from '../../src/egress/dialer.ts';
import type { AcquiredImage, ImageSource } from '../../src/runtime/pull/acquired-image.ts';
import {
  createImageRepository,
  type ImageAcquirer,
} from '../../src/runtime/pull/image-repository.ts';
import { NO_CREDENTIALS } from '../../src/runtime/registry/credentials.ts';
import { hostsConfig } from '../../src/runtime/registry/hosts-config.ts';
import { openStoreSession } from '../../src/runtime/store-session.ts';
import { startTestContainerd, type TestContainerd } from '../fixtures/containerd.ts';
import { type FaultProxy, startFaultProxy } from '../fixtures/fault-proxy.ts';
import { makeImage, type TestImage } from '../fixtures/registry-images.ts';
import { pushImage, writeLayout } from '../fixtures/registry-layout.ts';

function acquire(
  images: ImageAcquirer,
  source: ImageSource,
  pullPolicy: 'always' | 'missing' | 'never' = 'missing',
): Promise<AcquiredImage> {
  return images.acquire(source, {
    platform: { os: 'linux', architecture: 'amd64' },
    pullPolicy,
    signal: AbortSignal.timeout(60_000),
    onProgress: () => undefined,
  });
}

describe('createImageRepository() on containerd', () => {
  const own = new AsyncDisposableStack();
  let containerd: TestContainerd;
  let proxy: FaultProxy;
  let host = '';
  let dir = '';

  before(async () => {
    const temp = await mkdtempDisposable(join(tmpdir(), 'builderd-acquire-'));
    own.defer(() => temp.remove());
    dir = temp.path;
    containerd = own.use(await startTestContainerd());
    ({ host } = own.use(await startRegistry({ dir: join(dir, 'registry') })));
    proxy = own.use(await startFaultProxy(host));
  });
  after(() => own.disposeAsync());

  /** A namespace and a client of its own for each test. */
  function repositoryIn(namespace: string, stack: AsyncDisposableStack): ImageAcquirer {
    const dialer = stack.use(createDialer({ allow: parseEgressAllow('127.0.0.0/8') }));
    return createImageRepository({
      openSession: ({ signal }) =>
        openStoreSession(containerd.client, { namespace, leaseTtlMs: 600_000, signal }),
      registry: { dialer, hosts: hostsConfig(undefined), credentials: NO_CREDENTIALS },
      onCleanupFault: (step, reason) => {
        throw new Error(`cleanup failed: ${step}`, { cause: reason });
      },
    });
  }

  async function stateOf(
    namespace: string,
  ): Promise<{ blobs: string[]; images: string[]; leases: number; ingests: number }> {
    const call = { namespace, signal: AbortSignal.timeout(30_000) };
    const blobs: string[] = [];
    for await (const each of containerd.client.content.list([], call)) blobs.push(each.digest);
    const images = await containerd.client.images.list([], call);
    const leases = await containerd.client.leases.list([], call);
    const ingests = await containerd.client.content.ingests(call);
    return {
      blobs: blobs.sort(),
      images: images.map((each) => each.name),
      leases: leases.length,
      ingests: ingests.length,
    };
  }

  async function publish(repository: string): Promise<TestImage> {
    const image = makeImage({ layers: [randomBytes(600_000), randomBytes(30_000)] });
    await pushImage(dir, image, { registry: host, repository, tag: 'v1' });
    return image;
  }

  test('keeps a pulled image after its lease, and missing does not ask the registry again', async () => {
    await using stack = new AsyncDisposableStack();
    const images = repositoryIn('keeps', stack);
    const image = await publish('keeps');
    proxy.plan(() => undefined);
    const source: ImageSource = { kind: 'registry', reference: `${proxy.host}/keeps:v1` };
    await (await acquire(images, source))[Symbol.asyncDispose]();
    const wanted = [...image.content.keys()].sort();
    assert.deepEqual(await stateOf('keeps'), {
      blobs: wanted,
      images: [`${proxy.host}/keeps:v1`],
      leases: 0,
      ingests: 0,
    });
    // A forced collection keeps what the record reaches through our labels.
    const call = { namespace: 'keeps', signal: AbortSignal.timeout(30_000) };
    const lease = await containerd.client.leases.create({ owner: 'test', ttlMs: 60_000 }, call);
    await containerd.client.leases.delete(lease.id, { sync: true }, call);
    assert.deepEqual((await stateOf('keeps')).blobs, wanted);

    const asked = proxy.seen.length;
    for (const policy of ['missing', 'never'] as const) {
      await using again = await acquire(images, source, policy);
      assert.deepEqual(again.target, image.target);
      for (const layer of again.layers) {
        await using handle = await layer.open(AbortSignal.timeout(60_000));
        assert.equal(sha256(await handle.readFile()), layer.digest);
      }
    }
    assert.equal(proxy.seen.length, asked);
    await using fresh = await acquire(images, source, 'always');
    assert.deepEqual(fresh.target, image.target);
    assert.ok(proxy.seen.length > asked);
  });

  test('missing fetches a blob that the store lost', async () => {
    await using stack = new AsyncDisposableStack();
    const images = repositoryIn('lost', stack);
    const image = await publish('lost');
    const source: ImageSource = { kind: 'registry', reference: `${host}/lost:v1` };
    await (await acquire(images, source))[Symbol.asyncDispose]();
    const layer = image.layers[0];
    assert.ok(layer);
    await containerd.client.content.delete(layer.digest, {
      namespace: 'lost',
      signal: AbortSignal.timeout(30_000),
    });
    await assert.rejects(acquire(images, source, 'never'), {
      code: 'source.not_found',
      message: /never/,
    });
    await using again = await acquire(images, source);
    assert.equal(again.layers.length, 2);
    assert.deepEqual((await stateOf('lost')).blobs, [...image.content.keys()].sort());
  });

  for (const [name, choose, code] of [
    [
      'wrong',
      (line: string, bad: string) =>
        line.includes(bad) ? ({ kind: 'wrong-bytes' } as const) : undefined,
      'source.digest_mismatch',
    ],
    [
      'gone',
      (line: string, bad: string) =>
        line.includes(bad) ? ({ kind: 'status', status: 404 } as const) : undefined,
      'source.not_found',
    ],
    [
      'short',
      (line: string, bad: string) =>
        line.includes(bad) ? ({ kind: 'short', bytes: 9000 } as const) : undefined,
      'source.size_mismatch',
    ],
  ] as const) {
    test(`leaves no blob, ingest, record or lease when a layer is ${name}`, async () => {
      await using stack = new AsyncDisposableStack();
      const images = repositoryIn(name, stack);
      const image = await publish(name);
      proxy.plan((line) => choose(line, image.layers[0]?.digest ?? ''));
      const pull = acquire(images, { kind: 'registry', reference: `${proxy.host}/${name}:v1` });
      await assert.rejects(pull, { code });
      assert.deepEqual(await stateOf(name), { blobs: [], images: [], leases: 0, ingests: 0 });
    });
  }

  test('leaves nothing when it is cancelled in the middle of a layer', async () => {
    await using stack = new AsyncDisposableStack();
    const images = repositoryIn('cancelled', stack);
    const image = await publish('cancelled');
    const control = new AbortController();
    proxy.plan((line) =>
      line.includes(image.layers[0]?.digest ?? '')
        ? { kind: 'stall', afterBytes: 300_000, onStall: () => control.abort() }
        : undefined,
    );
    const pull = images.acquire(
      { kind: 'registry', reference: `${proxy.host}/cancelled:v1` },
      {
        platform: { os: 'linux', architecture: 'amd64' },
        pullPolicy: 'missing',
        signal: control.signal,
        onProgress: () => undefined,
      },
    );
    await assert.rejects(pull, { code: 'build.cancelled' });
    assert.deepEqual(await stateOf('cancelled'), { blobs: [], images: [], leases: 0, ingests: 0 });
  });

  test('fetches a blob once for two builds at the same time', async () => {
    await using stack = new AsyncDisposableStack();
    const images = repositoryIn('twice', stack);
    const image = await publish('twice');
    proxy.plan(() => undefined);
    const source: ImageSource = { kind: 'registry', reference: `${proxy.host}/twice:v1` };
    const both = await Promise.all([acquire(images, source), acquire(images, source)]);
    for (const each of both) await each[Symbol.asyncDispose]();
    for (const { digest } of image.layers) {
      assert.equal(proxy.seen.filter((line) => line === `GET /v2/twice/blobs/${digest}`).length, 1);
    }
  });

  test('holds the blobs of a layout until disposal and gives them no record', async () => {
    await using stack = new AsyncDisposableStack();
    const images = repositoryIn('layout', stack);
    const image = makeImage({ layers: [randomBytes(10_000)] });
    const path = join(dir, 'local');
    await writeLayout(path, image, 'v1');
    {
      await using got = await acquire(images, { kind: 'oci-layout', path });
      assert.deepEqual(got.target, image.target);
      assert.deepEqual((await stateOf('layout')).blobs, [...image.content.keys()].sort());
    }
    assert.deepEqual(await stateOf('layout'), { blobs: [], images: [], leases: 0, ingests: 0 });
  });
});
