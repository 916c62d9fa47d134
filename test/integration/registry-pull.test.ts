import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtempDisposable, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startRegistry, type LoopbackRegistry } from '../../contrib/dev/loopback-registry.ts';
import { dockerCredentials } from '../../src/runtime/registry/credentials.ts';
import { type FaultProxy, startFaultProxy } from '../fixtures/fault-proxy.ts';
import { makeCerts, writeHostsToml } from '../fixtures/registry-certs.ts';
import { NOTHING, PullHarness } from '../fixtures/registry-harness.ts';
import { makeImage, makeIndex } from '../fixtures/registry-images.ts';
import { pushImage } from '../fixtures/registry-layout.ts';
import { startTestRegistry } from '../fixtures/registry-server.ts';
import { startTokenServer } from '../fixtures/registry-token-server.ts';

const AUTH = { user: 'someone', password: 'pass:word' };
const image = makeImage({
  layers: [randomBytes(700_000), randomBytes(50_000), randomBytes(2_000)],
});

async function tempDir(): Promise<{ path: string } & AsyncDisposable> {
  const dir = await mkdtempDisposable(join(tmpdir(), 'builderd-pull-'));
  return { path: dir.path, [Symbol.asyncDispose]: () => dir.remove() };
}

/** Pulls and checks that every layer arrived byte by byte. */
async function pullWhole(harness: PullHarness, reference: string): Promise<void> {
  await using got = await harness.pull(reference, { pullPolicy: 'always' });
  assert.deepEqual(got.target, image.target);
  for (const layer of got.layers) {
    await using handle = await layer.open(AbortSignal.timeout(60_000));
    assert.deepEqual(await handle.readFile(), image.content.get(layer.digest)?.bytes);
  }
}

test('acquire() pulls from a docker-registry with Basic auth, credentials out of config.json', async () => {
  await using dir = await tempDir();
  await using registry = await startRegistry({ dir: dir.path, auth: AUTH });
  const to = { registry: registry.host, repository: 'team/app', tag: 'v1' };
  await pushImage(dir.path, image, { ...to, auth: AUTH });
  const auth = Buffer.from(`${AUTH.user}:${AUTH.password}`).toString('base64');
  const configPath = join(dir.path, 'config.json');
  await writeFile(configPath, JSON.stringify({ auths: { [registry.host]: { auth } } }));
  const credentials = dockerCredentials({ configPath, helperEnv: {} });
  await using harness = new PullHarness({ allow: registry.host, credentialSource: credentials });
  await pullWhole(harness, `${registry.host}/team/app:v1`);

  await using stranger = new PullHarness({ allow: registry.host });
  await assert.rejects(stranger.pull(`${registry.host}/team/app:v1`), {
    code: 'source.auth_failed',
  });
  await using wrong = new PullHarness({
    allow: registry.host,
    credentials: { [registry.host]: { user: 'someone', password: 'else' } },
  });
  await assert.rejects(wrong.pull(`${registry.host}/team/app:v1`), { code: 'source.auth_failed' });
  assert.deepEqual(wrong.leftovers(), NOTHING);
});

test('acquire() asks a credential helper by its name, with the host on its input', async () => {
  await using dir = await tempDir();
  await using registry = await startRegistry({ dir: dir.path, auth: AUTH });
  await pushImage(dir.path, image, {
    registry: registry.host,
    repository: 'a',
    tag: 'v1',
    auth: AUTH,
  });
  const helper = join(dir.path, 'docker-credential-testing');
  await writeFile(
    helper,
    `#!/bin/sh\nread host\necho "$1 $host" >> ${dir.path}/asked\nprintf '{"ServerURL":"%s","Username":"someone","Secret":"pass:word"}' "$host"\n`,
  );
  await chmod(helper, 0o755);
  const configPath = join(dir.path, 'config.json');
  await writeFile(configPath, JSON.stringify({ credHelpers: { [registry.host]: 'testing' } }));
  const helperEnv = { PATH: `${dir.path}:/usr/bin:/bin` };
  const credentials = dockerCredentials({ configPath, helperEnv });
  await using harness = new PullHarness({ allow: registry.host, credentialSource: credentials });
  await pullWhole(harness, `${registry.host}/a:v1`);
  assert.equal(await readFile(join(dir.path, 'asked'), 'utf8'), `get ${registry.host}\n`);
});

test('acquire() gets a token for a docker-registry with token auth, once for all blobs', async () => {
  await using dir = await tempDir();
  const certs = await makeCerts(join(dir.path, 'certs'));
  await using tokens = await startTokenServer({ certs, issuer: 'test issuer', auth: AUTH });
  const storage = join(dir.path, 'registry');
  {
    await using open = await startRegistry({ dir: storage });
    await pushImage(dir.path, image, { registry: open.host, repository: 'team/app', tag: 'v1' });
  }
  await using registry = await startRegistry({
    dir: storage,
    token: {
      realm: `http://${tokens.host}/token`,
      service: 'test service',
      issuer: 'test issuer',
      rootCertBundle: certs.caFile,
    },
  });
  await using harness = new PullHarness({
    allow: `${registry.host},${tokens.host}`,
    credentials: { [registry.host]: AUTH },
    trustedRealms: [tokens.host],
  });
  await pullWhole(harness, `${registry.host}/team/app:v1`);
  assert.deepEqual(
    tokens.seen.map((each) => each.scope),
    ['repository:team/app:pull'],
  );
});

test('acquire() trusts a private authority that certs.d names', async () => {
  await using dir = await tempDir();
  const certs = await makeCerts(join(dir.path, 'certs'));
  await using registry = await startRegistry({
    dir: join(dir.path, 'registry'),
    tls: { cert: certs.certFile, key: certs.keyFile },
  });
  await pushImage(dir.path, image, {
    registry: registry.host,
    repository: 'a',
    tag: 'v1',
    ca: certs.ca,
  });
  const certsDir = join(dir.path, 'certs.d');
  // Docker's own layout, then containerd's.
  await mkdir(join(certsDir, registry.host), { recursive: true });
  await writeFile(join(certsDir, registry.host, 'ca.crt'), certs.ca);
  await using harness = new PullHarness({ allow: registry.host, certsDir });
  await pullWhole(harness, `${registry.host}/a:v1`);
  await writeHostsToml(
    certsDir,
    registry.host,
    `server = "https://${registry.host}"\nca = "ca.crt"\n`,
  );
  await using again = new PullHarness({ allow: registry.host, certsDir });
  await pullWhole(again, `${registry.host}/a:v1`);
});

test('acquire() asks mirrors in the order of hosts.toml and goes on where one lacks the image', async () => {
  await using dir = await tempDir();
  await using mirror = await startRegistry({ dir: join(dir.path, 'mirror') });
  await pushImage(dir.path, image, { registry: mirror.host, repository: 'library/app', tag: 'v1' });
  await using empty = await startTestRegistry();
  await using upstream = await startTestRegistry();
  const certsDir = join(dir.path, 'certs.d');
  await writeHostsToml(
    certsDir,
    'upstream.test',
    [
      `server = "http://${upstream.host}"`,
      '[host."http://127.0.0.1:1"]',
      `[host."http://${empty.host}"]`,
      `[host."http://${mirror.host}"]`,
    ].join('\n'),
  );
  await using harness = new PullHarness({ allow: '127.0.0.0/8', certsDir });
  await pullWhole(harness, 'upstream.test/library/app:v1');
  assert.deepEqual(upstream.seen, []);
  assert.ok(empty.seen.length > 0);
  for (const each of empty.seen) assert.equal(each.query.get('ns'), 'upstream.test');
});

test('acquire() takes the platform asked for out of an index', async () => {
  await using dir = await tempDir();
  await using registry = await startRegistry({ dir: dir.path });
  const arm = makeImage({ architecture: 'arm64', layers: [randomBytes(100)] });
  const index = makeIndex([
    { image, platform: { os: 'linux', architecture: 'amd64' } },
    { image: arm, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
  ]);
  await pushImage(dir.path, index, { registry: registry.host, repository: 'multi', tag: 'v1' });
  await using harness = new PullHarness({ allow: registry.host });
  const reference = `${registry.host}/multi:v1`;
  await using got = await harness.pull(reference, { architecture: 'arm64' });
  assert.deepEqual(got.manifest, arm.manifest);
  assert.deepEqual(got.target, index.target);
  await using pinned = await harness.pull(`${registry.host}/multi@${index.target.digest}`);
  assert.deepEqual(pinned.manifest, image.manifest);
});

describe('acquire() through a fault proxy', () => {
  const own = new AsyncDisposableStack();
  let registry: LoopbackRegistry;
  let proxy: FaultProxy;
  const large = image.layers[0]?.digest ?? '';

  before(async () => {
    const dir = own.use(await tempDir());
    registry = own.use(await startRegistry({ dir: dir.path }));
    await pushImage(dir.path, image, { registry: registry.host, repository: 'a', tag: 'v1' });
    proxy = own.use(await startFaultProxy(registry.host));
  });
  after(() => own.disposeAsync());

  const harnessFor = (): PullHarness => new PullHarness({ allow: proxy.host });
  const reference = (): string => `${proxy.host}/a:v1`;

  test('survives resets in the middle of a blob', async () => {
    proxy.plan((line, nth) =>
      line.includes(large) && nth <= 3 ? { kind: 'reset', afterBytes: 100_000 } : undefined,
    );
    await using harness = harnessFor();
    await pullWhole(harness, reference());
  });

  test('waits as long as a 429 asks for', async () => {
    const start = proxy.seen.length;
    proxy.plan((line) =>
      line.startsWith('HEAD') && proxy.seen.length <= start + 2
        ? { kind: 'status', status: 429, headers: { 'retry-after': '7' } }
        : undefined,
    );
    await using harness = harnessFor();
    await pullWhole(harness, reference());
    assert.deepEqual(harness.waits, [7000, 7000]);
  });

  test('tries again after 503 and gives up when it lasts', async () => {
    const start = proxy.seen.length;
    proxy.plan(() =>
      proxy.seen.length <= start + 3 ? { kind: 'status', status: 503 } : undefined,
    );
    await using harness = harnessFor();
    await pullWhole(harness, reference());
    proxy.plan(() => ({ kind: 'status', status: 503 }));
    await using other = harnessFor();
    await assert.rejects(other.pull(reference()), { code: 'source.unreachable' });
    assert.deepEqual(other.leftovers(), NOTHING);
  });

  for (const [kind, fault, code] of [
    ['wrong bytes', { kind: 'wrong-bytes' }, 'source.digest_mismatch'],
    ['an endless body', { kind: 'endless' }, 'source.size_mismatch'],
    ['a short body', { kind: 'short', bytes: 5000 }, 'source.size_mismatch'],
  ] as const) {
    test(`refuses ${kind} and leaves nothing`, async () => {
      proxy.plan((line) => (line.includes(large) ? fault : undefined));
      await using harness = harnessFor();
      await assert.rejects(harness.pull(reference()), { code });
      assert.deepEqual(harness.leftovers(), NOTHING);
    });
  }

  test('ends at once when it is cancelled in the middle', async () => {
    const control = new AbortController();
    proxy.plan((line) =>
      line.includes(large)
        ? { kind: 'stall', afterBytes: 9000, onStall: () => control.abort() }
        : undefined,
    );
    await using harness = harnessFor();
    const pull = harness.pull(reference(), { signal: control.signal });
    await assert.rejects(pull, { code: 'build.cancelled' });
    assert.deepEqual(harness.leftovers(), NOTHING);
  });
});
