import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDigest } from '../../src/core/digest.ts';
import { ingestRef } from '../../src/runtime/blob-ingest.ts';
import { parseNamespace } from '../../src/runtime/namespaces.ts';
import { parseWireSize, parseWireTime } from '../../src/runtime/wire-values.ts';

const digest = parseDigest(`sha256:${'0'.repeat(64)}`);

// The names of containerd's own clients (remotes/handlers.go, MakeRefKey).
for (const [mediaType, want] of [
  ['application/vnd.oci.image.index.v1+json', 'index'],
  ['application/vnd.docker.distribution.manifest.list.v2+json', 'index'],
  ['application/vnd.oci.image.manifest.v1+json', 'manifest'],
  ['application/vnd.docker.distribution.manifest.v2+json', 'manifest'],
  ['application/vnd.oci.image.config.v1+json', 'config'],
  ['application/vnd.docker.container.image.v1+json', 'config'],
  ['application/vnd.oci.image.layer.v1.tar+gzip', 'layer'],
  ['application/vnd.docker.image.rootfs.diff.tar.gzip', 'layer'],
  ['application/octet-stream', 'unknown'],
] as const) {
  test(`ingestRef() names ${mediaType} as containerd's clients do`, () => {
    assert.equal(ingestRef({ mediaType, digest, size: 1 }), `${want}-${digest}`);
  });
}

for (const text of ['-1', '9007199254740993', 'x', '1.5', 'Infinity']) {
  test(`parseWireSize() refuses ${text}`, () => {
    assert.throws(() => parseWireSize(text, 'size'), { code: 'runtime.failed' });
  });
}

test("parseWireTime() takes Go's zero time for no time", () => {
  assert.equal(parseWireTime({ seconds: '-62135596800', nanos: 0 }), undefined);
  assert.equal(parseWireTime(null), undefined);
  assert.deepEqual(parseWireTime({ seconds: '1', nanos: 5e6 }), new Date(1005));
});

for (const text of ['default', 'a.b-c_d', 'x'.repeat(76)]) {
  test(`parseNamespace() takes ${text}`, () => assert.equal(parseNamespace(text), text));
}

for (const text of ['', 'version', 'a/b', 'a..b', '-a', 'a ', 'é', 'x'.repeat(77)]) {
  test(`parseNamespace() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseNamespace(text), { code: 'config.invalid' });
  });
}
