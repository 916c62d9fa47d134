import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  apiHostOf,
  formatReference,
  parseReference,
} from '../../src/runtime/registry/reference.ts';

const HEX = 'a'.repeat(64);

const CASES: readonly (readonly [string, string])[] = [
  ['debian', 'docker.io/library/debian:latest'],
  ['debian:bookworm', 'docker.io/library/debian:bookworm'],
  ['library/debian', 'docker.io/library/debian:latest'],
  ['docker.io/debian', 'docker.io/library/debian:latest'],
  ['index.docker.io/a/b', 'docker.io/a/b:latest'],
  ['ghcr.io/a/b:1', 'ghcr.io/a/b:1'],
  ['localhost/a', 'localhost/a:latest'],
  ['localhost:5000/a', 'localhost:5000/a:latest'],
  ['127.0.0.1:5000/a/b:v1', '127.0.0.1:5000/a/b:v1'],
  ['[::1]:5000/a', '[::1]:5000/a:latest'],
  ['Registry.Example.COM/a', 'registry.example.com/a:latest'],
  [`a/b:1@sha256:${HEX}`, `docker.io/a/b@sha256:${HEX}`],
  [`debian@sha256:${HEX}`, `docker.io/library/debian@sha256:${HEX}`],
  ['a__b/c-d.e--f', 'docker.io/a__b/c-d.e--f:latest'],
];

for (const [text, want] of CASES) {
  test(`parseReference() normalises ${text.slice(0, 40)}`, () => {
    assert.equal(formatReference(parseReference(text)), want);
  });
}

test('parseReference() is the identity on what formatReference() writes', () => {
  const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const repository = fc.array(word, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const registry = fc.constantFrom('', 'docker.io/', 'ghcr.io/', 'localhost:5000/', '[::1]:80/');
  fc.assert(
    fc.property(
      registry,
      repository,
      fc.stringMatching(/^[A-Za-z0-9_][\w.-]{0,20}$/),
      (host, name, tag) => {
        const once = parseReference(`${host}${name}:${tag}`);
        assert.deepEqual(parseReference(formatReference(once)), once);
      },
    ),
  );
});

test('parseReference() either throws source.invalid or answers only safe text', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[A-Za-z0-9:/@._\s-]{0,60}$/)), (text) => {
      try {
        assert.match(formatReference(parseReference(text)), /^[a-z0-9.:[\]_/-]+[:@][\w.:-]+$/);
      } catch (reason) {
        assert.equal(reason instanceof Error && 'code' in reason && reason.code, 'source.invalid');
      }
    }),
    { numRuns: 500 },
  );
});

test('apiHostOf() knows where Docker Hub answers', () => {
  assert.equal(apiHostOf('docker.io'), 'registry-1.docker.io');
  assert.equal(apiHostOf('ghcr.io'), 'ghcr.io');
});
