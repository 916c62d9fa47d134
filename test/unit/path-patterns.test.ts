import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type ByteString, bytesOf } from '../../src/core/bytes.ts';
import { filterIdentity, type FilterSpec } from '../../src/rootfs/filter/filter-spec.ts';
import { MatchBudget } from '../../src/rootfs/filter/match-budget.ts';
import { TreeFilter } from '../../src/rootfs/filter/tree-filter.ts';
import type { InodeKind } from '../../src/rootfs/tree.ts';
import { toRegExp } from '../fixtures/oracle/filtered-listing.ts';

const NONE: FilterSpec = { exclude: [], preserve: [], removeDocs: false, removeCache: false };

function filterOf(spec: Partial<FilterSpec>, budget?: MatchBudget): TreeFilter {
  return new TreeFilter({ ...NONE, ...spec }, budget);
}

/** Whether a path goes, when nothing lies below it. */
function drops(filter: TreeFilter, path: string, kind: InodeKind = 'file'): boolean {
  const names = path.split('/') as ByteString[];
  const last = names.pop() ?? ('' as ByteString);
  let state = filter.root;
  for (const name of names) state = filter.enter(state, name);
  if (kind === 'dir') return filter.dropsDirectory(filter.enter(state, last));
  return filter.drops(state, last, kind);
}

const MATCHES: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['a', ['a', 'a/b', 'a/b/c'], ['b', 'b/a', 'A', 'aa']],
  ['a/b', ['a/b', 'a/b/c'], ['a', 'b', 'x/a/b']],
  ['*', ['a', '.hidden', 'a/b'], []],
  ['a/*', ['a/b', 'a/b/c'], ['a', 'b']],
  ['*.log', ['x.log', '.log'], ['x.log2', 'd/x.log', 'log']],
  ['**/*.log', ['x.log', 'd/x.log', 'a/b/c.log'], ['x.log2', 'd/x']],
  ['a/**', ['a/b', 'a/b/c'], ['a', 'ab']],
  ['a/**/z', ['a/z', 'a/b/z', 'a/b/c/z/d'], ['z', 'a', 'a/b/zz']],
  ['**', ['a', 'a/b'], []],
  ['**/**/a/**/**', ['a/b', 'x/a/b'], ['a', 'b/c']],
  ['a?c', ['abc', 'a-c'], ['ac', 'abbc']],
  ['[a-c]x', ['ax', 'cx'], ['dx', 'x', '-x']],
  ['[!a-c]x', ['dx', '-x'], ['ax', 'x']],
  ['[^a]x', ['bx'], ['ax']],
  ['[]a]x', [']x', 'ax'], ['bx']],
  ['[a-]x', ['ax', '-x'], ['bx']],
  ['[\\]\\\\]x', [']x', '\\x'], ['ax']],
  ['\\*', ['*'], ['a', '\\*']],
  ['a*b*c', ['abc', 'a--b--c', 'abcbc'], ['ab', 'abcd']],
  ['*a', ['a', 'ba', 'aaa'], ['ab']],
  ['.*', ['.a', '..a'], ['a']],
];

for (const [pattern, matching, others] of MATCHES) {
  test(`the pattern ${pattern} matches what it says, and what lies below`, () => {
    const filter = filterOf({ exclude: [pattern] });
    for (const path of matching) assert.ok(drops(filter, path), `${path} should match`);
    for (const path of others) assert.ok(!drops(filter, path), `${path} should not match`);
  });
}

test('patterns are bytes: a character of two bytes is two question marks, and case counts', () => {
  const path = bytesOf('é');
  assert.ok(drops(filterOf({ exclude: ['é'] }), path));
  assert.ok(drops(filterOf({ exclude: ['??'] }), path));
  assert.ok(!drops(filterOf({ exclude: ['?'] }), path));
  assert.ok(!drops(filterOf({ exclude: ['É'] }), path));
  assert.ok(drops(filterOf({ exclude: ['[!a]'] }), '\xff'));
});

const part = fc
  .array(fc.constantFrom('a', 'b', '*', '?', '[ab]', '[!a]', '\\*', '[b-c]', 'é', ']'), {
    minLength: 1,
    maxLength: 6,
  })
  .map((tokens) => tokens.join('').replace(/\*\*+/g, '*'));
const pattern = fc
  .array(fc.oneof({ weight: 3, arbitrary: part }, fc.constant('**')), {
    minLength: 1,
    maxLength: 6,
  })
  .map((parts) => parts.join('/'));
const name = fc
  .array(fc.constantFrom('a', 'b', 'c', '*', ']', '\xc3\xa9', '\xff'), {
    minLength: 1,
    maxLength: 6,
  })
  .map((chars) => chars.join(''));
const path = fc.array(name, { minLength: 1, maxLength: 6 }).map((names) => names.join('/'));

test('any patterns on any path agree with regular expressions', () => {
  fc.assert(
    fc.property(
      fc.array(pattern, { minLength: 1, maxLength: 4 }),
      fc.array(pattern, { maxLength: 2 }),
      path,
      (exclude, preserve, where) => {
        const names = where.split('/');
        const chain = names.map((_name, index) => names.slice(0, index + 1).join('/'));
        const matches = (patterns: readonly string[]) =>
          patterns.map(toRegExp).some((each) => chain.some((prefix) => each.test(prefix)));
        assert.equal(
          drops(filterOf({ exclude, preserve }), where),
          matches(exclude) && !matches(preserve),
        );
      },
    ),
    { numRuns: 2000 },
  );
});

const REFUSED: readonly (readonly [string, string])[] = [
  ['', 'it is empty'],
  ['/etc', 'starts with a slash'],
  ['a/', 'an empty part'],
  ['a//b', 'an empty part'],
  ['../x', 'names nothing'],
  ['a/../b', 'names nothing'],
  ['./a', 'names nothing'],
  ['\\.\\./a', 'names nothing'],
  ['a\0b', 'control character'],
  ['a\nb', 'control character'],
  ['\x7f', 'control character'],
  ['\ud800', 'half a character'],
  ['a**', 'must stand alone'],
  ['***', 'must stand alone'],
  ['[ab', 'has no ]'],
  ['[', 'has no ]'],
  ['[]', 'has no ]'],
  ['[a-', 'has no ]'],
  ['[b-a]', 'runs backwards'],
  ['[é]', 'ASCII only'],
  ['a\\', 'last backslash'],
  ['a'.repeat(1025), 'at most 1024'],
  ['é'.repeat(513), 'at most 1024'],
];
for (const [text, fact] of REFUSED) {
  test(`the pattern ${JSON.stringify(text.slice(0, 20))} is refused: ${fact}`, () => {
    for (const spec of [{ exclude: [text] }, { preserve: [text] }]) {
      assert.throws(
        () => filterOf(spec),
        (reason: unknown) =>
          reason instanceof Error &&
          'code' in reason &&
          reason.code === 'usage.invalid' &&
          reason.message.includes(fact) &&
          !/[\0-\x1f]/.test(reason.message),
      );
    }
  });
}

test('the longest pattern and the most patterns are taken, one more is refused', () => {
  filterOf({ exclude: ['a'.repeat(1024)] });
  const many = Array.from({ length: 256 }, (_each, index) => `f${index}`);
  filterOf({ exclude: many, preserve: many });
  assert.throws(() => filterOf({ exclude: [...many, 'x'] }), { code: 'usage.invalid' });
  const large = Array.from({ length: 32 }, () => 'a'.repeat(1024));
  filterOf({ exclude: large });
  assert.throws(() => filterOf({ exclude: large, preserve: ['b'] }), { code: 'usage.invalid' });
});

test('a preserved path wins over what leaves it out, wherever each of them stands', () => {
  const filter = filterOf({
    exclude: ['usr', 'usr/share/doc/a'],
    preserve: ['usr/share/doc', 'usr/lib/*.so'],
  });
  assert.ok(drops(filter, 'usr/bin/x'));
  assert.ok(!drops(filter, 'usr/share/doc/a/x'));
  assert.ok(!drops(filter, 'usr/lib/a.so'));
  assert.ok(drops(filter, 'usr/lib/a.so.1'));
});

const DOCS: readonly (readonly [string, InodeKind, boolean])[] = [
  ['usr/share/doc', 'dir', false],
  ['usr/share/doc/bash', 'dir', true],
  ['usr/share/doc/bash/changelog.gz', 'file', true],
  ['usr/share/doc/bash/copyright', 'file', false],
  ['usr/share/doc/bash/copyright', 'symlink', false],
  ['usr/share/doc/a/LICENSE.txt', 'file', false],
  ['usr/share/doc/a/b/COPYING', 'file', false],
  ['usr/share/doc/libx-dev', 'symlink', false],
  ['usr/share/doc/a/README', 'symlink', true],
  ['usr/share/man/man1', 'dir', false],
  ['usr/share/man/man1/ls.1.gz', 'file', true],
  ['usr/share/man/man1/below', 'dir', true],
  ['usr/share/man/de', 'dir', true],
  ['usr/share/info/dir', 'file', true],
  ['usr/share/gtk-doc/html', 'dir', true],
  ['usr/share/help/C', 'dir', true],
  ['usr/local/share/man/man1/x.1', 'file', true],
  ['usr/local/share/doc/x/copyright', 'file', false],
  ['usr/share/docs/x', 'file', false],
  ['usr/share/common-licenses/GPL-3', 'file', false],
  ['opt/usr/share/doc/x', 'file', false],
  ['var/cache/x', 'file', false],
];
for (const [where, kind, goes] of DOCS) {
  test(`without documentation ${where} (${kind}) ${goes ? 'goes' : 'stays'}`, () => {
    assert.equal(drops(filterOf({ removeDocs: true }), where, kind), goes);
  });
}

const CACHES: readonly (readonly [string, InodeKind, boolean])[] = [
  ['var/cache', 'dir', false],
  ['var/cache/nginx', 'dir', false],
  ['var/cache/apt/pkgcache.bin', 'file', true],
  ['var/cache/link', 'symlink', true],
  ['var/lib/apt/lists', 'dir', false],
  ['var/lib/apt/lists/partial', 'dir', true],
  ['var/lib/apt/extended_states', 'file', false],
  ['tmp', 'dir', false],
  ['tmp/.X11-unix', 'dir', true],
  ['tmp/.hidden', 'file', true],
  ['var/tmp/x/y', 'file', true],
  ['home/a/tmp/x', 'file', false],
  ['usr/lib/python3/__pycache__/a.pyc', 'file', false],
];
for (const [where, kind, goes] of CACHES) {
  test(`without caches ${where} (${kind}) ${goes ? 'goes' : 'stays'}`, () => {
    assert.equal(drops(filterOf({ removeCache: true }), where, kind), goes);
  });
}

test('what a preset keeps goes all the same when the caller names it, and the other way round', () => {
  const filter = filterOf({
    exclude: ['usr/share/doc/*/copyright'],
    preserve: ['usr/share/doc/keep', 'tmp/keep'],
    removeDocs: true,
    removeCache: true,
  });
  assert.ok(drops(filter, 'usr/share/doc/a/copyright'));
  assert.ok(!drops(filter, 'usr/share/doc/keep/x'));
  assert.ok(!drops(filter, 'tmp/keep'));
});

test('a filter knows which patterns of its caller matched nothing', () => {
  const filter = filterOf({ exclude: ['a', 'b/**/c'], preserve: ['d'], removeDocs: true });
  drops(filter, 'a/x');
  assert.deepEqual(filter.unmatched(), ['b/**/c', 'd']);
});

test('filterIdentity() is the same for the same patterns in any order, and empty for none', () => {
  const spec = { ...NONE, exclude: ['b', 'a', 'b'] };
  assert.equal(filterIdentity(spec), filterIdentity({ ...NONE, exclude: ['a', 'b'] }));
  assert.notEqual(filterIdentity(spec), filterIdentity({ ...spec, removeDocs: true }));
  assert.notEqual(filterIdentity(spec), filterIdentity({ ...spec, preserve: ['c'] }));
  assert.equal(filterIdentity({ ...NONE, preserve: ['a'] }), '');
});
