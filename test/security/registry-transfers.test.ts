import assert from 'node:assert/strict';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type ErrorCode } from '../../src/core/error-catalogue.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { makeCerts, writeHostsToml } from '../fixtures/registry-certs.ts';
import { json, makeImage, OCI_MANIFEST, type TestImage } from '../fixtures/registry-images.ts';
import { type HarnessOptions, NOTHING, PullHarness } from '../fixtures/registry-harness.ts';
import {
  type Intercept,
  startTestRegistry,
  type TestRegistry,
} from '../fixtures/registry-server.ts';

const SECRET = 'hunter2';
const BASIC = `Basic ${Buffer.from(`u:${SECRET}`).toString('base64')}`;

interface Setup extends AsyncDisposable {
  readonly registry: TestRegistry;
  readonly other: TestRegistry;
  readonly harness: PullHarness;
  readonly image: TestImage;
  readonly reference: string;
}

/** A registry with an image and a second server on another port; credentials for the first. */
async function setUp(
  intercept: (registry: TestRegistry, other: TestRegistry) => Intercept,
  options: Partial<HarnessOptions> = {},
): Promise<Setup> {
  const registry = await startTestRegistry();
  const other = await startTestRegistry();
  const harness = new PullHarness({
    allow: `${registry.host},${other.host}`,
    credentials: { [registry.host]: { user: 'u', password: SECRET } },
    ...options,
  });
  const image = makeImage();
  registry.publish('a/b', 'v1', image);
  registry.intercept(intercept(registry, other));
  return {
    registry,
    other,
    harness,
    image,
    reference: `${registry.host}/a/b:v1`,
    async [Symbol.asyncDispose]() {
      await harness[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
      await other[Symbol.asyncDispose]();
    },
  };
}

async function refused(
  { harness, reference }: Setup,
  code: ErrorCode,
  message?: RegExp,
): Promise<void> {
  await assert.rejects(harness.pull(reference), (reason: unknown) => {
    assert.ok(isBuilderdError(reason), String(reason));
    assert.equal(reason.code, code, reason.message);
    if (message !== undefined) assert.match(reason.message, message);
    assert.doesNotMatch(`${reason.message} ${JSON.stringify(reason.details)}`, new RegExp(SECRET));
    return true;
  });
  assert.deepEqual(harness.leftovers(), NOTHING);
}

async function pulled({ harness, reference, image }: Setup): Promise<void> {
  await using got = await harness.pull(reference);
  assert.deepEqual(got.target, image.target);
  assert.deepEqual(
    got.layers.map((each) => each.digest),
    image.layers.map((each) => each.digest),
  );
}

const bearerFrom =
  (realm: string): Intercept =>
  (request, response) => {
    if (request.headers.authorization === 'Bearer good') return false;
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` });
    response.end();
    return true;
  };

const givesToken =
  (token: string): Intercept =>
  (_request, response) => {
    response.end(JSON.stringify({ token }));
    return true;
  };

const onBlob =
  (act: Intercept): Intercept =>
  (request, response) =>
    request.path.includes('/blobs/') && act(request, response);

test('E1 a realm at the metadata address is refused before anything is sent', async () => {
  await using it = await setUp(() => bearerFrom('http://169.254.169.254/latest/token'));
  await refused(it, 'source.denied_address');
});

test('E1 a realm on another loopback port is refused unless it is allowed', async () => {
  await using it = await setUp((_, other) => bearerFrom(`http://${other.host}/token`), {
    allow: '',
  });
  await refused(it, 'source.denied_address');
  assert.deepEqual(it.other.seen, []);
});

test('E1 a token server that redirects is not followed', async () => {
  await using it = await setUp((_, other) => bearerFrom(`http://${other.host}/token`));
  it.other.intercept((_request, response) => {
    response.writeHead(302, { location: `http://${it.other.host}/stolen` });
    response.end();
    return true;
  });
  await refused(it, 'source.auth_failed');
  assert.deepEqual(
    it.other.seen.map((each) => each.path),
    ['/token'],
  );
});

test('E1 an https registry with a plain http realm is refused', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-e1-'));
  const certs = await makeCerts(dir.path);
  await using registry = await startTestRegistry(certs);
  await using other = await startTestRegistry();
  await writeHostsToml(
    dir.path,
    registry.host,
    `server = "https://${registry.host}"\nca = "${certs.caFile}"\n`,
  );
  registry.intercept(bearerFrom(`http://${other.host}/token`));
  await using harness = new PullHarness({ allow: '127.0.0.0/8', certsDir: dir.path });
  await assert.rejects(harness.pull(`${registry.host}/a/b`), {
    code: 'source.auth_failed',
    message: /not https/,
  });
  assert.deepEqual(other.seen, []);
});

test('E2 a realm on an unrelated host gets no credentials, and the error says so', async () => {
  await using it = await setUp((_, other) => bearerFrom(`http://${other.host}/token`));
  it.other.intercept((request, response) => {
    response.writeHead(request.headers.authorization === undefined ? 401 : 200);
    response.end('{"token":"good"}');
    return true;
  });
  await refused(it, 'source.auth_failed', /not a trusted realm/);
  assert.deepEqual(
    it.other.seen.map((each) => each.headers.authorization),
    [undefined],
  );
});

test('E2 a realm that the operator trusts gets them', async () => {
  await using other = await startTestRegistry();
  other.intercept((request, response) => {
    response.writeHead(request.headers.authorization === BASIC ? 200 : 401);
    response.end('{"token":"good"}');
    return true;
  });
  await using it = await setUp(() => bearerFrom(`http://${other.host}/token`), {
    allow: '127.0.0.0/8',
    trustedRealms: [other.host],
  });
  await pulled(it);
  assert.equal(other.seen.length, 1);
  assert.equal(other.seen[0]?.query.get('scope'), 'repository:a/b:pull');
});

test('E3 a redirect to another port keeps no Authorization', async () => {
  await using it = await setUp((_, other) => (request, response) => {
    if (request.headers.authorization !== BASIC) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
    } else if (request.path.includes('/blobs/')) {
      response.writeHead(307, { location: `http://${other.host}${request.path}?sig=1` });
    } else return false;
    response.end();
    return true;
  });
  it.other.publish('a/b', 'v1', it.image);
  await pulled(it);
  assert.equal(it.other.seen.length, 3);
  for (const each of it.other.seen) assert.equal(each.headers.authorization, undefined);
});

test('E3 a redirect to an address that is not allowed is refused', async () => {
  await using it = await setUp(() =>
    onBlob((_request, response) => {
      response.writeHead(307, { location: 'http://169.254.169.254/latest/meta-data/' });
      response.end();
      return true;
    }),
  );
  await refused(it, 'source.denied_address');
});

for (const location of [
  `http://u:${SECRET}@127.0.0.1/`,
  'file:///etc/passwd',
  'gopher://127.0.0.1/',
]) {
  test(`E3 a redirect to ${location.slice(0, 9)} is refused`, async () => {
    await using it = await setUp(() =>
      onBlob((_request, response) => {
        response.writeHead(302, { location });
        response.end();
        return true;
      }),
    );
    await assert.rejects(it.harness.pull(it.reference), (reason: unknown) => {
      assert.ok(isBuilderdError(reason));
      assert.ok(['source.invalid', 'source.not_found'].includes(reason.code), reason.message);
      assert.doesNotMatch(reason.message, new RegExp(SECRET));
      return true;
    });
    assert.deepEqual(it.harness.leftovers(), NOTHING);
  });
}

test('E6 an endless body without a length is cut at the promised size', async () => {
  let sent = 0;
  await using it = await setUp(() =>
    onBlob((_request, response) => {
      const timer = setInterval(() => {
        sent += 1024;
        response.write(Buffer.alloc(1024));
      }, 1);
      response.on('close', () => clearInterval(timer));
      return true;
    }),
  );
  await refused(it, 'source.size_mismatch');
  assert.ok(sent < 1024 * 1024);
});

test('E7 a body that trickles is given up by the rate floor', async () => {
  await using it = await setUp(
    () =>
      onBlob((_request, response) => {
        const timer = setInterval(() => response.write('x'), 10);
        response.on('close', () => clearInterval(timer));
        return true;
      }),
    { limits: { rateFloor: { minBytesPerSecond: 1024, windowMs: 100 } } },
  );
  await refused(it, 'source.unreachable');
});

test('E7 a body that stops is given up by the idle limit', async () => {
  await using it = await setUp(
    () =>
      onBlob((_request, response) => {
        response.write('x');
        return true;
      }),
    { limits: { idleTimeoutMs: 150 } },
  );
  await refused(it, 'source.unreachable');
});

test('E7 headers that never come are given up', async () => {
  await using it = await setUp(() => () => true, { limits: { headersTimeoutMs: 100 } });
  await refused(it, 'source.unreachable', /no answer/);
  assert.equal(it.registry.seen.length, 5);
});

test('E7 a transfer longer than the wall clock is given up', async () => {
  await using it = await setUp(
    () =>
      onBlob((_request, response) => {
        const timer = setInterval(() => response.write('x'), 5);
        response.on('close', () => clearInterval(timer));
        return true;
      }),
    { limits: { wallTimeMs: 120 } },
  );
  await refused(it, 'source.unreachable');
});

test('E8 a redirect loop ends after five hops', async () => {
  await using it = await setUp(() => (request, response) => {
    response.writeHead(302, { location: request.path });
    response.end();
    return true;
  });
  await refused(it, 'source.invalid', /redirects more than 5/);
  assert.equal(it.registry.seen.length, 6);
});

test('E9 an endless 429 with a huge Retry-After waits at most a minute each and ends', async () => {
  await using it = await setUp(() => (_request, response) => {
    response.writeHead(429, { 'retry-after': '99999999' });
    response.end();
    return true;
  });
  await refused(it, 'source.unreachable', /429/);
  assert.deepEqual(it.harness.waits, [60_000, 60_000, 60_000, 60_000]);
});

test('E9 the waiting of all requests together has one budget', async () => {
  let tries = 0;
  await using it = await setUp(() => (_request, response) => {
    tries += 1;
    if (tries % 3 === 0) return false;
    response.writeHead(503, { 'retry-after': '60' });
    response.end();
    return true;
  });
  await refused(it, 'source.unreachable', /503/);
  assert.equal(
    it.harness.waits.reduce((sum, each) => sum + each, 0),
    300_000,
  );
});

test('E10 a token answer above 64 KiB is refused while it is read', async () => {
  await using it = await setUp((_, other) => bearerFrom(`http://${other.host}/token`));
  let sent = 0;
  it.other.intercept((_request, response) => {
    const timer = setInterval(() => {
      sent += 16_384;
      response.write(' '.repeat(16_384));
    }, 1);
    response.on('close', () => clearInterval(timer));
    return true;
  });
  await refused(it, 'source.too_large');
  assert.ok(sent < 4 * 1024 * 1024);
});

for (const token of ['a\r\nx-evil: 1', 'a b', 'ä', '', 'x'.repeat(20_000)]) {
  test(`E10 a token such as ${JSON.stringify(token.slice(0, 16))} is never used as a header`, async () => {
    await using it = await setUp((_, other) => bearerFrom(`http://${other.host}/token`));
    it.other.intercept(givesToken(token));
    await refused(it, 'source.auth_failed', /no usable token/);
    assert.equal(it.registry.seen.length, 1);
  });
}

/** Breaks the first transfer of the larger layer half way, then answers resumption by `next`. */
function breaksOnce(image: TestImage, next: Intercept): Intercept {
  const layer = image.layers[1];
  const bytes = image.content.get(layer?.digest ?? image.target.digest)?.bytes ?? Buffer.alloc(0);
  let broken = false;
  return (request, response) => {
    if (layer === undefined || !request.path.endsWith(layer.digest)) return false;
    if (broken) return next(request, response);
    broken = true;
    response.writeHead(200, { 'content-length': bytes.length });
    response.write(bytes.subarray(0, 20), () => setTimeout(() => response.destroy(), 20));
    return true;
  };
}

test('E11 a broken layer is resumed by range', async () => {
  const ranges: (string | undefined)[] = [];
  await using it = await setUp(() =>
    breaksOnce(makeImage(), (request) => {
      ranges.push(request.headers.range);
      return false;
    }),
  );
  await pulled(it);
  assert.deepEqual(ranges, ['bytes=20-']);
});

test('E11 a range answered with 200 gives the same bytes', async () => {
  await using it = await setUp(() => {
    const image = makeImage();
    return breaksOnce(image, (request, response) => {
      const digest = request.path.slice(request.path.lastIndexOf('/') + 1);
      const [, entry] = [...image.content].find(([key]) => key === digest) ?? [];
      response.end(entry?.bytes);
      return true;
    });
  });
  await pulled(it);
});

test('E11 a wrong Content-Range is not believed: the blob is read from its start', async () => {
  await using it = await setUp(() =>
    breaksOnce(makeImage(), (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 3-5/9' });
      response.end('bad');
      return true;
    }),
  );
  await pulled(it);
});

const zipped: Intercept = (request, response) => {
  if (request.method !== 'GET') return false;
  response.writeHead(200, { 'content-type': OCI_MANIFEST, 'content-encoding': 'gzip' });
  response.end(gzipSync('{}'));
  return true;
};

test('E12 a manifest with a content encoding is refused, a blob is hashed as it was sent', async () => {
  await using manifest = await setUp(() => zipped);
  await refused(manifest, 'source.unsupported', /content encoding/);
  await using blob = await setUp(() => onBlob(zipped));
  await assert.rejects(
    blob.harness.pull(blob.reference),
    (reason: unknown) =>
      isBuilderdError(reason, 'source.size_mismatch') ||
      isBuilderdError(reason, 'source.digest_mismatch'),
  );
  assert.deepEqual(blob.harness.leftovers(), NOTHING);
});

test('E13 a Docker-Content-Digest that lies is an error, at HEAD and at GET', async () => {
  const lie = `sha256:${'0'.repeat(64)}`;
  await using head = await setUp(() => (request, response) => {
    if (request.method !== 'HEAD') return false;
    response.writeHead(200, {
      'content-type': OCI_MANIFEST,
      'content-length': 10,
      'docker-content-digest': lie,
    });
    response.end();
    return true;
  });
  await refused(head, 'source.not_found');
  await using get = await setUp(() => (request, response) => {
    response.writeHead(request.method === 'HEAD' ? 405 : 200, {
      'content-type': OCI_MANIFEST,
      'docker-content-digest': lie,
    });
    response.end(request.method === 'HEAD' ? '' : json({}));
    return true;
  });
  await refused(get, 'source.digest_mismatch');
});

test('E14 a certificate of an unknown authority is refused, and accepted only where a file says so', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-e14-'));
  const certs = await makeCerts(dir.path);
  await using registry = await startTestRegistry(certs);
  registry.publish('a/b', 'v1', makeImage());
  const port = registry.host.split(':')[1];
  const options = {
    allow: '127.0.0.0/8',
    certsDir: dir.path,
    resolveName: async () => ['127.0.0.1'],
  };
  const reference = `registry.test:${port}/a/b:v1`;
  const attempt = async (): Promise<void> => {
    await using harness = new PullHarness(options);
    await using image = await harness.pull(reference);
    assert.equal(image.layers.length, 2);
  };
  await assert.rejects(attempt(), { code: 'source.unreachable', message: /certificate/ });
  assert.deepEqual(registry.seen, []);
  const server = `server = "https://registry.test:${port}"\n`;
  await writeHostsToml(dir.path, `registry.test:${port}`, `${server}ca = "${certs.caFile}"\n`);
  await attempt();
  await writeHostsToml(dir.path, `registry.test:${port}`, `${server}skip_verify = true\n`);
  await attempt();
  // The same certificate under a name that it does not carry.
  await writeHostsToml(
    dir.path,
    `other.test:${port}`,
    `server = "https://other.test:${port}"\nca = "${certs.caFile}"\n`,
  );
  await using harness = new PullHarness(options);
  await assert.rejects(harness.pull(`other.test:${port}/a/b:v1`), {
    code: 'source.unreachable',
    message: /ALTNAME/,
  });
});

test('E14 plain http is refused for every host that is not loopback', async () => {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({
    allow: '127.0.0.0/8',
    resolveName: async () => ['127.0.0.1'],
  });
  await assert.rejects(harness.pull(`registry.test:${registry.host.split(':')[1]}/a/b`), {
    code: 'source.unreachable',
  });
  assert.deepEqual(registry.seen, []);
});

test('E15 a mirror that returns other bytes each time never wins over the pinned digest', async () => {
  let count = 0;
  await using it = await setUp(() => (request, response) => {
    if (request.method !== 'GET' || !request.path.includes('/manifests/')) return false;
    count += 1;
    response.writeHead(200, { 'content-type': OCI_MANIFEST });
    response.end(json({ schemaVersion: 2, count }));
    return true;
  });
  await assert.rejects(
    it.harness.pull(it.reference),
    (reason: unknown) =>
      isBuilderdError(reason, 'source.size_mismatch') ||
      isBuilderdError(reason, 'source.digest_mismatch'),
  );
  assert.equal(count, 1);
  assert.deepEqual(it.harness.leftovers(), NOTHING);
});

test('E16 a login of one acquisition is not there for the next', async () => {
  const credentials: Record<string, { user: string; password: string }> = {};
  await using registry = await startTestRegistry();
  registry.publish('a/b', 'v1', makeImage());
  registry.intercept((request, response) => {
    if (request.headers.authorization === BASIC) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
    response.end();
    return true;
  });
  credentials[registry.host] = { user: 'u', password: SECRET };
  await using harness = new PullHarness({ allow: registry.host, credentials });
  const reference = `${registry.host}/a/b:v1`;
  await (await harness.pull(reference))[Symbol.asyncDispose]();
  harness.credentials.delete(registry.host);
  await assert.rejects(harness.pull(reference, { pullPolicy: 'always' }), {
    code: 'source.auth_failed',
  });
});

test('E17 credentials for the bare host are not sent to its port, nor to a look-alike', async () => {
  const seen: (string | undefined)[] = [];
  await using it = await setUp(
    () => (request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
      response.end();
      return true;
    },
    {
      credentials: {
        '127.0.0.1': { user: 'u', password: SECRET },
        '127.0.0.1:1': { user: 'u', password: SECRET },
      },
    },
  );
  await refused(it, 'source.auth_failed', /no credentials/);
  assert.deepEqual(seen, [undefined]);
});

test('E18 an error body that echoes credentials is never shown', async () => {
  await using it = await setUp(() => (request, response) => {
    if (request.headers.authorization === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
    } else response.writeHead(403);
    response.end(
      json({
        errors: [{ code: 'DENIED', message: `you sent ${SECRET} ${BASIC}`, detail: SECRET }],
      }),
    );
    return true;
  });
  await refused(it, 'source.auth_failed', /403 DENIED$/);
});

test('E19 a header of 1 MB, and 10,000 headers, are refused', async () => {
  await using large = await setUp(() => (_request, response) => {
    response.writeHead(200, { 'x-large': 'x'.repeat(1_000_000) });
    response.end();
    return true;
  });
  await refused(large, 'source.invalid', /headers are too large/);
  await using many = await setUp(() => (_request, response) => {
    for (let at = 0; at < 10_000; at += 1) response.setHeader(`x-${at}`, '1');
    response.writeHead(200);
    response.end();
    return true;
  });
  await refused(many, 'source.invalid', /headers are too large/);
});

for (const host of [
  '127.0.0.1:5000',
  '127.1:5000',
  '0x7f.1:5000',
  '0177.0.0.1:5000',
  '2130706433:5000',
  '0.0.0.0:5000',
  'localhost:5000',
  'LOCALHOST.:5000',
  '[::1]:5000',
  '[::ffff:127.0.0.1]:5000',
  '[0:0:0:0:0:ffff:7f00:1]:5000',
  '169.254.169.254',
  '100.100.100.200',
  '168.63.129.16',
  '10.0.0.1',
  '192.168.0.1:5000',
  '[fe80::1]:5000',
  '[fd00::1]:5000',
  '[64:ff9b::7f00:1]:5000',
  '[2002:7f00:1::]:5000',
]) {
  test(`E20 the registry ${host} is source.denied_address whatever its spelling`, async () => {
    await using harness = new PullHarness({ allow: '' });
    await assert.rejects(harness.pull(`${host}/a/b`), { code: 'source.denied_address' });
    assert.deepEqual(harness.leftovers(), NOTHING);
  });
}

test('E23 a name with 500 addresses, all private but one: only the checked one is dialled', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-e23-'));
  await using registry = await startTestRegistry();
  registry.publish('a/b', 'v1', makeImage());
  const port = registry.host.split(':')[1];
  await writeHostsToml(dir.path, `many.test:${port}`, `server = "http://many.test:${port}"\n`);
  const addresses = Array.from({ length: 500 }, (_, at) => `10.0.${at >> 8}.${at & 255}`);
  addresses[250] = '127.0.0.1';
  await using harness = new PullHarness({
    // Stands for the one public address: the only one that the policy lets through.
    allow: registry.host,
    certsDir: dir.path,
    resolveName: async () => addresses,
  });
  await using image = await harness.pull(`many.test:${port}/a/b:v1`);
  assert.equal(image.layers.length, 2);
});

test('E23 a name with private addresses only is refused without naming them', async () => {
  await using harness = new PullHarness({
    allow: '',
    resolveName: async () => ['10.20.30.40', '127.0.0.1'],
  });
  await assert.rejects(harness.pull('inner.test/a/b'), (reason: unknown) => {
    assert.ok(isBuilderdError(reason, 'source.denied_address'));
    assert.doesNotMatch(reason.message, /10\.20/);
    return true;
  });
});
