import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { lookup, type LookupOptions } from '../../src/rootfs/tree-lookup.ts';
import { plainTree } from '../fixtures/plain-tree.ts';

const chain = Object.fromEntries(
  Array.from({ length: 41 }, (_, i) => [`l${i}`, i === 0 ? '/a/b/file' : `l${i - 1}`]),
);
const { tree } = plainTree({
  a: { b: { file: Buffer.from('x'), up: '../..', self: '.' }, abs: '/a/b', rel: 'b' },
  dangling: '/nowhere/else',
  loop: 'loop',
  empty: '',
  out: '../../../a',
  slash: 'a/b/file/',
  ...chain,
});

function find(path: string, options: LookupOptions = {}): string {
  const found = lookup(tree, bytesOf(path), options);
  switch (found.kind) {
    case 'found':
      return `${found.node.inode.kind} ${found.path}`;
    case 'missing':
      return `missing ${found.parent} + ${found.rest.join('/')}`;
    case 'not_a_directory':
      return `not_a_directory ${found.path}`;
    case 'loop':
      return 'loop';
  }
}

const CASES: readonly (readonly [string, string, LookupOptions?])[] = [
  ['/', 'dir /'],
  ['', 'dir /'],
  ['/..', 'dir /'],
  ['/a/b/file', 'file /a/b/file'],
  ['a//b/./file', 'file /a/b/file'],
  ['/a/b/../abs/file', 'file /a/b/file'],
  ['/a/rel/file', 'file /a/b/file'],
  ['/a/b/up/a/b/self/file', 'file /a/b/file'],
  ['/out/b', 'dir /a/b'],
  ['/a/abs', 'dir /a/b'],
  ['/a/abs', 'symlink /a/abs', { followLast: false }],
  ['/a/abs/', 'dir /a/b', { followLast: false }],
  ['/a/b/file/', 'not_a_directory /a/b/file'],
  ['/a/b/file/x', 'not_a_directory /a/b/file'],
  ['/a/b/file/..', 'not_a_directory /a/b/file'],
  ['/slash', 'not_a_directory /a/b/file'],
  ['/a/new/deep', 'missing /a + new/deep'],
  ['/dangling', 'missing / + nowhere/else'],
  ['/dangling/x', 'missing / + nowhere/else/x'],
  ['/dangling', 'symlink /dangling', { followLast: false }],
  ['/empty', 'missing / + empty'],
  ['/loop', 'loop'],
  ['/loop', 'symlink /loop', { followLast: false }],
  // 40 links are followed, as by the kernel; the 41st is one too many.
  ['/l39', 'file /a/b/file'],
  ['/l40', 'loop'],
];
for (const [path, want, options] of CASES) {
  test(`lookup() answers ${JSON.stringify(path)} with ${want}`, () => {
    assert.equal(find(path, options), want);
  });
}
