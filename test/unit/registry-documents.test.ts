import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import { parseImageConfig, parseImageDocument } from '../../src/runtime/registry/documents.ts';
import {
  json,
  makeImage,
  makeIndex,
  OCI_INDEX,
  OCI_MANIFEST,
} from '../fixtures/registry-images.ts';

const TYPED = /^(source\.(invalid|unsupported|too_large)|image\.bad_config)$/;

/** Runs a parser that may answer or refuse by our codes, and do nothing else. */
function mayRefuse(work: () => unknown): void {
  try {
    work();
  } catch (reason) {
    assert.ok(isBuilderdError(reason), `not a typed fault: ${String(reason)}`);
    assert.match(reason.code, TYPED);
  }
}

const image = makeImage();
const index = makeIndex([{ image, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } }]);
const bytesOf = (digest: string): Buffer =>
  [...index.content].find(([key]) => key === digest)?.[1].bytes ?? Buffer.alloc(0);
const SEEDS = [
  [bytesOf(image.manifest.digest), OCI_MANIFEST],
  [bytesOf(index.target.digest), OCI_INDEX],
] as const;

test('parseImageDocument() reads a manifest and an index', () => {
  assert.deepEqual(parseImageDocument(...SEEDS[0]), {
    kind: 'manifest',
    config: image.config,
    layers: image.layers,
  });
  assert.deepEqual(parseImageDocument(...SEEDS[1]), {
    kind: 'index',
    manifests: [{ ...image.target, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } }],
  });
});

test('parseImageDocument() accepts Docker schema 2 with its own layer types', () => {
  const docker = 'application/vnd.docker.distribution.manifest.v2+json';
  const layers = [
    { ...image.layers[0], mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' },
  ];
  const config = { ...image.config, mediaType: 'application/vnd.docker.container.image.v1+json' };
  const document = parseImageDocument(
    json({ schemaVersion: 2, mediaType: docker, config, layers }),
    docker,
  );
  assert.deepEqual(document, { kind: 'manifest', config, layers });
});

test('parseImageDocument() answers or refuses by type when bytes are changed', () => {
  const edit = fc.record({
    seed: fc.constantFrom(...SEEDS),
    at: fc.nat(600),
    cut: fc.nat(40),
    put: fc.oneof(
      fc.constantFrom(
        '"',
        '{',
        '}',
        '[',
        ']',
        ',',
        'null',
        '-1',
        '1e9',
        '"sha256:"',
        '\\u0000',
        'true',
      ),
      fc.string({ maxLength: 12 }),
    ),
  });
  fc.assert(
    fc.property(edit, ({ seed: [bytes, mediaType], at, cut, put }) => {
      const text = bytes.toString('utf8');
      const start = at % text.length;
      const changed = Buffer.from(text.slice(0, start) + put + text.slice(start + cut));
      mayRefuse(() => parseImageDocument(changed, mediaType));
      mayRefuse(() => parseImageConfig(changed, 2));
    }),
    { numRuns: 3000 },
  );
});

test('parseImageDocument() answers or refuses by type when values are replaced', () => {
  const value = fc.jsonValue({ maxDepth: 3 });
  const names = [
    'schemaVersion',
    'mediaType',
    'config',
    'layers',
    'manifests',
    'annotations',
    'platform',
  ];
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...names), value),
      fc.constantFrom(...SEEDS),
      (part, seed) => {
        const whole: unknown = JSON.parse(seed[0].toString('utf8'));
        mayRefuse(() => parseImageDocument(json({ ...Object(whole), ...part }), seed[1]));
      },
    ),
    { numRuns: 1000 },
  );
});

test('parseImageDocument() answers or refuses by type for any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      mayRefuse(() => parseImageDocument(Buffer.from(bytes), OCI_MANIFEST));
      mayRefuse(() => parseImageConfig(Buffer.from(bytes), 0));
    }),
  );
});

test('parseImageConfig() answers or refuses by type when values are replaced', () => {
  const value = fc.jsonValue({ maxDepth: 3 });
  const names = ['os', 'architecture', 'variant', 'rootfs', 'config', 'history', '__proto__'];
  const config: unknown = JSON.parse(bytesOf(image.config.digest).toString('utf8'));
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), value), (part) => {
      mayRefuse(() => parseImageConfig(json({ ...Object(config), ...part }), 2));
    }),
    { numRuns: 1000 },
  );
});

test('parseImageConfig() answers platform and diff IDs', () => {
  const { platform, diffIds } = parseImageConfig(bytesOf(image.config.digest), 2);
  assert.deepEqual(platform, { os: 'linux', architecture: 'amd64' });
  assert.equal(diffIds.length, 2);
});
