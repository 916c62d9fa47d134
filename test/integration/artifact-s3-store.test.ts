import assert from 'node:assert/strict';
import { once } from 'node:events';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { newBuildId } from '../../src/core/ids.ts';
import type { ArtifactStore, StoredBlob } from '../../src/store/artifacts/artifact-store.ts';
import type { BlobIndex } from '../../src/store/artifacts/blob-index.ts';
import { createS3Client } from '../../src/store/artifacts/s3-client.ts';
import { WINDOW_BYTES } from '../../src/store/artifacts/s3-copy.ts';
import { openS3Store } from '../../src/store/artifacts/s3-store.ts';
import { partBytes } from '../../src/store/artifacts/s3-upload.ts';
import { storedPath } from '../../src/store/artifacts/stored-name.ts';
import {
  addon,
  commitBytes,
  EMPTY_INDEX,
  listAll,
  newTenantId,
  privateDirectory,
  readBlob,
  signal,
  someBytes,
} from '../fixtures/artifact-stores.ts';
import { ageUploads, startS3Server, type S3Server } from '../fixtures/s3-server.ts';
import { signatureFault } from '../fixtures/s3-signature.ts';
import { memoryTenantKeys } from '../fixtures/tenant-keys.ts';

const MIB = 1 << 20;
let server: S3Server;

before(async () => {
  server = await startS3Server();
});

after(async () => {
  await server[Symbol.asyncDispose]();
});

/** A store under a prefix of its own. */
async function openStore(
  prefix: string,
  options: {
    readonly s3?: Partial<S3Server['config']>;
    readonly faults?: unknown[];
    readonly index?: BlobIndex;
  } = {},
) {
  const home = await privateDirectory();
  const keys = memoryTenantKeys();
  const store = await openS3Store({
    s3: { ...server.config, ...options.s3 },
    prefix,
    stagingDirectory: home.path,
    index: options.index ?? EMPTY_INDEX,
    keys,
    minPartBytes: MIB,
    onCleanupFault: (reason) => options.faults?.push(reason),
    ...(addon === undefined ? {} : { addon }),
  });
  return {
    store,
    keys,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

async function unfinishedUploads(store: ArtifactStore): Promise<number> {
  assert.equal(store.backend, 's3');
  await using client = createS3Client(server.config);
  const page = await client.text({
    method: 'GET',
    key: '',
    query: { uploads: '' },
    doing: 'list uploads',
    signal,
  });
  return page.split('<Upload>').length - 1;
}

test('the signature check of the test knows the example of the documentation', () => {
  const headers = new Map([
    ['host', 'examplebucket.s3.amazonaws.com'],
    ['range', 'bytes=0-9'],
    ['x-amz-content-sha256', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['x-amz-date', '20130524T000000Z'],
    [
      'authorization',
      'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    ],
  ]);
  const request = { method: 'GET', target: '/test.txt', headers, body: Buffer.alloc(0) };
  const secret = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
  assert.equal(signatureFault(request, secret), undefined);
  assert.equal(signatureFault(request, `${secret}x`), 'SignatureDoesNotMatch');
  assert.equal(
    signatureFault({ ...request, body: Buffer.from('x') }, secret),
    'XAmzContentSHA256Mismatch',
  );
});

test('commit(), open() with ranges, remove() and list() work in a bucket', async () => {
  await using opened = await openStore('round-trip');
  const { store } = opened;
  const tenantId = newTenantId();
  const kept: StoredBlob[] = [];
  for (const length of [0, 1, 70_000, MIB, MIB + 1, 5 * MIB + 77]) {
    for (const encrypt of [false, true]) {
      const bytes = someBytes(length);
      const blob = await commitBytes(store, bytes, { tenantId, encrypt });
      assert.equal(blob.sizeBytes, length);
      assert.ok((await readBlob(store, tenantId, blob)).equals(bytes), `${length} ${encrypt}`);
      if (length > 66_000) {
        const range = { start: 65_530, end: 66_000 };
        const part = await readBlob(store, tenantId, blob, range);
        assert.ok(part.equals(bytes.subarray(65_530, 66_001)));
      }
      kept.push(blob);
    }
  }
  const listed = await listAll(store);
  assert.deepEqual(
    listed.map((each) => (each.kind === 'blob' ? each.generation : each.name)).toSorted(),
    kept.map(({ generation }) => generation).toSorted(),
  );
  for (const blob of kept) {
    assert.equal(await store.storedSize(tenantId, blob, { signal }), blob.storedBytes);
    await store.remove(tenantId, blob, { signal });
    await store.remove(tenantId, blob, { signal });
    assert.equal(await store.storedSize(tenantId, blob, { signal }), undefined);
  }
  const [first] = kept;
  assert.ok(first);
  await assert.rejects(readBlob(store, tenantId, first), { code: 'artifact.missing' });
  assert.deepEqual(await store.check({ signal }), { kind: 'healthy' });
  assert.deepEqual(await listAll(store), []);
});

test('recode() renews the key of an object without a file on this host', async () => {
  await using opened = await openStore('recode');
  const { store, keys } = opened;
  const tenantId = newTenantId();
  const bytes = someBytes(3 * MIB);
  const old = await commitBytes(store, bytes, { tenantId, encrypt: true });
  const key = await keys.rotate(tenantId, { signal });
  const renewed = await store.recode(tenantId, old, { encrypt: true, signal });
  assert.equal(renewed.dataKeyId, key.id);
  assert.ok((await readBlob(store, tenantId, renewed)).equals(bytes));
});

test('a wrong secret and a wrong bucket are refused, and say so', async () => {
  for (const s3 of [{ secretAccessKey: 'wrong' }, { bucket: 'no-such-bucket' }]) {
    await using opened = await openStore('refused', { s3 });
    const committing = commitBytes(opened.store, someBytes(10), { tenantId: newTenantId() });
    await assert.rejects(committing, (reason) => {
      assert.ok(reason instanceof Error && 'code' in reason);
      assert.match(String(reason.code), /^(?:storage\.failed|artifact\.missing)$/);
      assert.match(reason.message, /SignatureDoesNotMatch|NoSuchBucket/);
      assert.doesNotMatch(reason.message, /wrong|S3RVER|127\.0/);
      return true;
    });
    assert.equal((await opened.store.check({ signal })).kind, 'unhealthy');
  }
});

test('passing faults of the store are waited out, whatever request they hit', async () => {
  await using opened = await openStore('passing');
  const { store } = opened;
  const tenantId = newTenantId();
  const bytes = someBytes(MIB + 5);
  for (const fault of [
    { kind: 'answer', status: 503 },
    { kind: 'answer', status: 429 },
    { kind: 'cut', after: 'nothing' },
    { kind: 'cut', after: 'effect' },
  ] as const) {
    // Every other request fails: each of the steps meets its fault.
    server.breakRequests((_request, nth) => (nth % 2 === 1 ? fault : undefined));
    const blob = await commitBytes(store, bytes, { tenantId, encrypt: true });
    assert.ok((await readBlob(store, tenantId, blob)).equals(bytes), JSON.stringify(fault));
  }
  server.breakRequests(() => undefined);
  // Where the answer to a beginning was lost nobody knows the upload's name: that is for `tidy`.
  assert.equal(await unfinishedUploads(store), 1);
  ageUploads(25 * 60 * 60_000);
  await store.tidy({ signal });
  ageUploads(0);
  assert.equal(await unfinishedUploads(store), 0);
});

test('a transfer that breaks off is taken up where it stopped', async () => {
  await using opened = await openStore('broken');
  const { store } = opened;
  const tenantId = newTenantId();
  const bytes = someBytes(2 * MIB);
  const blob = await commitBytes(store, bytes, { tenantId });
  server.breakRequests(({ method }, nth) =>
    method === 'GET' && nth < 7 ? { kind: 'half body' } : undefined,
  );
  assert.ok((await readBlob(store, tenantId, blob)).equals(bytes));
  const starts = server.seen.filter(({ method }) => method === 'GET').length;
  assert.ok(starts > 2, `${starts} transfers`);
  server.breakRequests(({ method }) =>
    method === 'GET' ? { kind: 'answer', status: 503 } : undefined,
  );
  await assert.rejects(readBlob(store, tenantId, blob), { code: 'service.unavailable' });
  server.breakRequests(() => undefined);
});

test('readers that stand still hold no connection, and read on where they stood', async () => {
  await using opened = await openStore('slow');
  const { store } = opened;
  const tenantId = newTenantId();
  const bytes = someBytes(2 * WINDOW_BYTES + 70_001);
  for (const encrypt of [false, true]) {
    const blob = await commitBytes(store, bytes, { tenantId, encrypt });
    server.breakRequests(() => undefined);
    // More than the store has connections.
    const slow = await Promise.all(
      Array.from({ length: 20 }, () => store.open(tenantId, blob, { signal })),
    );
    const begun: Buffer[] = [];
    for (const reader of slow) {
      if (reader.readableLength === 0) await once(reader, 'readable');
      begun.push(reader.read(1));
    }
    const range = { start: 70_000, end: WINDOW_BYTES + 70_000 };
    const part = await readBlob(store, tenantId, blob, range);
    assert.ok(part.equals(bytes.subarray(range.start, range.end + 1)));
    for (const { method, rangeBytes } of server.seen) {
      assert.ok(method !== 'GET' || rangeBytes <= WINDOW_BYTES, `${method} of ${rangeBytes}`);
    }
    const [first, ...others] = slow;
    assert.ok(first !== undefined);
    assert.ok(Buffer.concat([begun[0] ?? bytes, await buffer(first)]).equals(bytes));
    for (const reader of others) {
      reader.destroy();
      await once(reader, 'close');
    }
  }
});

test('a reader that leaves ends what it waits for', async () => {
  await using opened = await openStore('leaving');
  const { store } = opened;
  const tenantId = newTenantId();
  const blob = await commitBytes(store, someBytes(MIB), { tenantId, encrypt: false });
  server.breakRequests((request) =>
    request.method === 'GET' ? { kind: 'answer', status: 503 } : undefined,
  );
  const reader = await store.open(tenantId, blob, { signal });
  reader.read(0);
  while (!server.seen.some(({ method }) => method === 'GET')) await new Promise(setImmediate);
  reader.destroy();
  await once(reader, 'close');
  server.breakRequests(() => undefined);
});

test('an upload that fails at any request is taken back, and leaves no object', async () => {
  await using opened = await openStore('taken-back');
  const { store } = opened;
  const tenantId = newTenantId();
  const bytes = someBytes(3 * MIB + 5);
  for (let fatal = 1; ; fatal += 1) {
    server.breakRequests(({ method }, nth) =>
      nth === fatal && method !== 'DELETE' ? { kind: 'answer', status: 400 } : undefined,
    );
    try {
      await commitBytes(store, bytes, { tenantId });
    } catch (reason) {
      assert.ok(reason instanceof Error && 'code' in reason && reason.code === 'storage.failed');
      server.breakRequests(() => undefined);
      assert.equal(await unfinishedUploads(store), 0, `request ${fatal}`);
      continue;
    }
    assert.ok(fatal > 6, `only ${fatal} requests`);
    break;
  }
  server.breakRequests(() => undefined);
});

test('tidy() takes back what dead processes left, after a day', async () => {
  await using opened = await openStore('tidy');
  const { store } = opened;
  // Nobody answers the requests that would take it back: as if the process were dead.
  server.breakRequests(({ method }, nth) =>
    nth >= 3 && method !== 'GET' ? { kind: 'answer', status: 400 } : undefined,
  );
  const committing = commitBytes(store, someBytes(3 * MIB), { tenantId: newTenantId() });
  await assert.rejects(committing, { code: 'storage.failed' });
  server.breakRequests(() => undefined);
  await store.tidy({ signal });
  assert.equal(await unfinishedUploads(store), 1, 'it may still be under way');
  ageUploads(25 * 60 * 60_000);
  await store.tidy({ signal });
  ageUploads(0);
  assert.equal(await unfinishedUploads(store), 0);
});

test('tidy() reads all pages of what was begun', async () => {
  await using opened = await openStore('tidy-pages');
  const { store } = opened;
  const tenantId = newTenantId();
  for (let dead = 0; dead < 5; dead += 1) {
    server.breakRequests(({ method }, nth) =>
      nth >= 3 && method !== 'GET' ? { kind: 'answer', status: 400 } : undefined,
    );
    await assert.rejects(commitBytes(store, someBytes(3 * MIB), { tenantId }));
  }
  server.breakRequests(() => undefined);
  assert.ok((await unfinishedUploads(store)) < 5, 'they are more than a page');
  ageUploads(25 * 60 * 60_000);
  await store.tidy({ signal });
  ageUploads(0);
  assert.equal(await unfinishedUploads(store), 0);
});

test('commit() takes up a copy only if it is there, has its size and is marked as that copy', async () => {
  const kept = new Map<string, StoredBlob>();
  const index: BlobIndex = {
    hasSize: async () => true,
    findPresent: async (_tenantId, digest) => kept.get(digest),
  };
  await using opened = await openStore('reuse', { index });
  const { store } = opened;
  const tenantId = newTenantId();
  for (const length of [3000, 3 * MIB]) {
    const bytes = someBytes(length);
    const commit = (): Promise<StoredBlob> => commitBytes(store, bytes, { tenantId });
    const blob = await commit();
    kept.set(blob.digest, blob);
    assert.equal((await commit()).generation, blob.generation, 'the same bytes are kept once');
    await using client = createS3Client(server.config);
    const { directories, file } = storedPath(tenantId, blob);
    const key = `reuse/${directories.join('/')}/${file}`;
    const doing = 'spoil an object';
    for (const body of [bytes.subarray(1), Buffer.alloc(length, 'x')]) {
      (await client.request({ method: 'PUT', key, body, doing, signal })).discard();
      const again = await commit();
      assert.notEqual(again.generation, blob.generation, 'it was stored again');
      assert.ok((await readBlob(store, tenantId, again)).equals(bytes));
    }
    (await client.request({ method: 'DELETE', key, doing, signal })).discard();
    assert.notEqual((await commit()).generation, blob.generation);
  }
});

test('a cancelled upload is taken back', async () => {
  const faults: unknown[] = [];
  await using opened = await openStore('cancelled', { faults });
  const { store } = opened;
  const stop = new AbortController();
  server.breakRequests((_request, nth) => {
    if (nth === 3) stop.abort();
    return undefined;
  });
  await using staged = await store.stage(
    { buildId: newBuildId(), attempt: 1, name: 'a' },
    { signal },
  );
  await staged.handle.writeFile(someBytes(4 * MIB));
  const options = { tenantId: newTenantId(), encrypt: false, signal: stop.signal };
  await assert.rejects(store.commit(staged, options), { code: 'build.cancelled' });
  server.breakRequests(() => undefined);
  assert.deepEqual(faults, []);
  assert.equal(await unfinishedUploads(store), 0);
  assert.deepEqual(await listAll(store), []);
});

test('partBytes() stays within the limits of S3 up to its largest object', () => {
  for (const size of [1, 16 * MIB, 200 * 1024 * MIB, 5 * 1024 ** 4]) {
    const part = partBytes(size);
    assert.ok(part >= 5 * MIB && part <= 5 * 1024 * MIB);
    assert.ok(Math.ceil(size / part) <= 10_000);
  }
});
