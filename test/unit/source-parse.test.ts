import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { parseSource } from '../../src/sources/parse-source.ts';

const ACCEPTED: readonly (readonly [string, ReturnType<typeof parseSource>])[] = [
  ['debian', { kind: 'registry', reference: 'debian' }],
  ['debian:12', { kind: 'registry', reference: 'debian:12' }],
  ['docker://debian:12', { kind: 'registry', reference: 'debian:12' }],
  ['docker://oci:1', { kind: 'registry', reference: 'oci:1' }],
  ['localhost:5000/a/b', { kind: 'registry', reference: 'localhost:5000/a/b' }],
  ['[::1]:5000/a', { kind: 'registry', reference: '[::1]:5000/a' }],
  [
    `r.io/a@sha256:${'0'.repeat(64)}`,
    { kind: 'registry', reference: `r.io/a@sha256:${'0'.repeat(64)}` },
  ],
  ['a@sha256:0', { kind: 'registry', reference: 'a@sha256:0' }],
  ['oci:dir', { kind: 'oci-layout', path: 'dir' }],
  ['oci:/a b/ü:v1', { kind: 'oci-layout', path: '/a b/ü', tag: 'v1' }],
  ['oci-archive:./x.tar', { kind: 'oci-archive', path: './x.tar' }],
  ['oci-archive:-x.tar:v', { kind: 'oci-archive', path: '-x.tar', tag: 'v' }],
  [
    'docker-archive:x.tar:repo/name:tag',
    { kind: 'docker-archive', path: 'x.tar', tag: 'repo/name:tag' },
  ],
];
for (const [text, want] of ACCEPTED) {
  test(`parseSource() reads ${text.slice(0, 40)}`, () => {
    assert.deepEqual(parseSource(text), want);
  });
}

for (const text of [
  'git+https://github.com/a/b#main:sub',
  'git+ssh://git@host/a',
  'https://host/x.tar.gz',
  'http://host/x.tar.gz',
  'dir:.',
  'archive:x.tgz',
]) {
  test(`parseSource() says that ${text} is not supported yet`, () => {
    assert.throws(
      () => parseSource(text),
      (reason) => isBuilderdError(reason, 'not_supported'),
    );
  });
}

test('parseSource() explains how a path is written', () => {
  for (const text of ['./layout', '/tmp/x.tar', '../x', '~/x']) {
    assert.throws(() => parseSource(text), /looks like a path; write oci:DIR/);
  }
});
