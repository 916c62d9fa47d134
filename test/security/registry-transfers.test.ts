import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { isBuilderdError } from '../../src/core/errors.ts';
import {
  BASIC,
  expectPulled,
  expectRefused,
  SECRET,
  setUpAttack,
} from '../fixtures/registry-attack.ts';
import { NOTHING } from '../fixtures/registry-harness.ts';
import { json, makeImage, OCI_MANIFEST, type TestImage } from '../fixtures/registry-images.ts';
import { type Intercept } from '../fixtures/registry-server.ts';

const onBlob =
  (act: Intercept): Intercept =>
  (request, response) =>
    request.path.includes('/blobs/') && act(request, response);

test('E3 a redirect to another port keeps no Authorization', async () => {
  await using it = await setUpAttack((_, other) => (request, response) => {
    if (request.headers.authorization !== BASIC) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
    } else if (request.path.includes('/blobs/')) {
      response.writeHead(307, { location: `http://${other.host}${request.path}?sig=1` });
    } else return false;
    response.end();
    return true;
  });
  it.other.publish('a/b', 'v1', it.image);
  await expectPulled(it);
  assert.equal(it.other.seen.length, 3);
  for (const each of it.other.seen) assert.equal(each.headers.authorization, undefined);
});

test('E3 a redirect to an address that is not allowed is refused', async () => {
  await using it = await setUpAttack(() =>
    onBlob((_request, response) => {
      response.writeHead(307, { location: 'http://169.254.169.254/latest/meta-data/' });
      response.end();
      return true;
    }),
  );
  await expectRefused(it, 'source.denied_address');
});

for (const location of [
  `http://u:${SECRET}@127.0.0.1/`,
  'file:///etc/passwd',
  'gopher://127.0.0.1/',
]) {
  test(`E3 a redirect to ${location.slice(0, 9)} is refused`, async () => {
    await using it = await setUpAttack(() =>
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
  await using it = await setUpAttack(() =>
    onBlob((_request, response) => {
      const timer = setInterval(() => {
        sent += 1024;
        response.write(Buffer.alloc(1024));
      }, 1);
      response.on('close', () => clearInterval(timer));
      return true;
    }),
  );
  await expectRefused(it, 'source.size_mismatch');
  assert.ok(sent < 1024 * 1024);
});

test('E7 a body that trickles is given up by the rate floor', async () => {
  await using it = await setUpAttack(
    () =>
      onBlob((_request, response) => {
        const timer = setInterval(() => response.write('x'), 10);
        response.on('close', () => clearInterval(timer));
        return true;
      }),
    { limits: { rateFloor: { minBytesPerSecond: 1024, windowMs: 100 } } },
  );
  await expectRefused(it, 'source.unreachable');
});

test('E7 a body that stops is given up by the idle limit', async () => {
  await using it = await setUpAttack(
    () =>
      onBlob((_request, response) => {
        response.write('x');
        return true;
      }),
    { limits: { idleTimeoutMs: 150 } },
  );
  await expectRefused(it, 'source.unreachable');
});

test('E7 headers that never come are given up', async () => {
  await using it = await setUpAttack(() => () => true, { limits: { headersTimeoutMs: 100 } });
  await expectRefused(it, 'source.unreachable', /no answer/);
  assert.equal(it.registry.seen.length, 5);
});

test('E7 a transfer longer than the wall clock is given up', async () => {
  await using it = await setUpAttack(
    () =>
      onBlob((_request, response) => {
        const timer = setInterval(() => response.write('x'), 5);
        response.on('close', () => clearInterval(timer));
        return true;
      }),
    { limits: { wallTimeMs: 120 } },
  );
  await expectRefused(it, 'source.unreachable');
});

test('E8 a redirect loop ends after five hops', async () => {
  await using it = await setUpAttack(() => (request, response) => {
    response.writeHead(302, { location: request.path });
    response.end();
    return true;
  });
  await expectRefused(it, 'source.invalid', /redirects more than 5/);
  assert.equal(it.registry.seen.length, 6);
});

test('E9 an endless 429 with a huge Retry-After waits at most a minute each and ends', async () => {
  await using it = await setUpAttack(() => (_request, response) => {
    response.writeHead(429, { 'retry-after': '99999999' });
    response.end();
    return true;
  });
  await expectRefused(it, 'source.unreachable', /429/);
  assert.deepEqual(it.harness.waits, [60_000, 60_000, 60_000, 60_000]);
});

test('E9 the waiting of all requests together has one budget', async () => {
  let tries = 0;
  await using it = await setUpAttack(() => (_request, response) => {
    tries += 1;
    if (tries % 3 === 0) return false;
    response.writeHead(503, { 'retry-after': '60' });
    response.end();
    return true;
  });
  await expectRefused(it, 'source.unreachable', /503/);
  assert.equal(
    it.harness.waits.reduce((sum, each) => sum + each, 0),
    300_000,
  );
});

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
  await using it = await setUpAttack(() =>
    breaksOnce(makeImage(), (request) => {
      ranges.push(request.headers.range);
      return false;
    }),
  );
  await expectPulled(it);
  assert.deepEqual(ranges, ['bytes=20-']);
});

test('E11 a range answered with 200 gives the same bytes', async () => {
  await using it = await setUpAttack(() => {
    const image = makeImage();
    return breaksOnce(image, (request, response) => {
      const digest = request.path.slice(request.path.lastIndexOf('/') + 1);
      const [, entry] = [...image.content].find(([key]) => key === digest) ?? [];
      response.end(entry?.bytes);
      return true;
    });
  });
  await expectPulled(it);
});

test('E11 a wrong Content-Range is not believed: the blob is read from its start', async () => {
  await using it = await setUpAttack(() =>
    breaksOnce(makeImage(), (request, response) => {
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 3-5/9' });
      response.end('bad');
      return true;
    }),
  );
  await expectPulled(it);
});

const zipped: Intercept = (request, response) => {
  if (request.method !== 'GET') return false;
  response.writeHead(200, { 'content-type': OCI_MANIFEST, 'content-encoding': 'gzip' });
  response.end(gzipSync('{}'));
  return true;
};

test('E12 a manifest with a content encoding is refused, a blob is hashed as it was sent', async () => {
  await using manifest = await setUpAttack(() => zipped);
  await expectRefused(manifest, 'source.unsupported', /content encoding/);
  await using blob = await setUpAttack(() => onBlob(zipped));
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
  await using head = await setUpAttack(() => (request, response) => {
    if (request.method !== 'HEAD') return false;
    response.writeHead(200, {
      'content-type': OCI_MANIFEST,
      'content-length': 10,
      'docker-content-digest': lie,
    });
    response.end();
    return true;
  });
  await expectRefused(head, 'source.not_found');
  await using get = await setUpAttack(() => (request, response) => {
    response.writeHead(request.method === 'HEAD' ? 405 : 200, {
      'content-type': OCI_MANIFEST,
      'docker-content-digest': lie,
    });
    response.end(request.method === 'HEAD' ? '' : json({}));
    return true;
  });
  await expectRefused(get, 'source.digest_mismatch');
});

test('E15 a mirror that returns other bytes each time never wins over the pinned digest', async () => {
  let count = 0;
  await using it = await setUpAttack(() => (request, response) => {
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

test('E19 a header of 1 MB, and 10,000 headers, are refused', async () => {
  await using large = await setUpAttack(() => (_request, response) => {
    response.writeHead(200, { 'x-large': 'x'.repeat(1_000_000) });
    response.end();
    return true;
  });
  await expectRefused(large, 'source.invalid', /headers are too large/);
  await using many = await setUpAttack(() => (_request, response) => {
    for (let at = 0; at < 10_000; at += 1) response.setHeader(`x-${at}`, '1');
    response.writeHead(200);
    response.end();
    return true;
  });
  await expectRefused(many, 'source.invalid', /headers are too large/);
});
