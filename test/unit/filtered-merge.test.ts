import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import type { FilterSpec } from '../../src/rootfs/filter/filter-spec.ts';
import { TreeFilter } from '../../src/rootfs/filter/tree-filter.ts';
import {
  dir,
  file,
  hardlink,
  type Layer,
  symlink,
  whiteout,
} from '../fixtures/images/layer-entries.ts';
import { legalLayers } from '../fixtures/images/random-layers.ts';
import { arbitraryPatterns } from '../fixtures/images/random-patterns.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import { filterListing } from '../fixtures/oracle/filtered-listing.ts';
import { mergeListing } from '../fixtures/oracle/merge-listing.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

let scratch: string;
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'filtered-merge-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

const numRuns = Number(process.env['BUILDERD_TEST_RANDOM_MERGES'] ?? 80);
const NONE: FilterSpec = { exclude: [], preserve: [], removeDocs: false, removeCache: false };
const BLOCK = 4096;

async function merge(layers: readonly Layer[], spec: Partial<FilterSpec>) {
  const merged = await mergeListing(scratch, layers, new TreeFilter({ ...NONE, ...spec }));
  const excluded = merged.fidelity.report().notes.find(({ code }) => code === 'excluded');
  return { ...merged, excluded, paths: [...merged.listing.keys()].filter((path) => path !== '') };
}

test('a filtered merge of any legal image is the whole merge without the names', async () => {
  await fc.assert(
    fc.asyncProperty(legalLayers, arbitraryPatterns, async (layers, patterns) => {
      const { listing, implied } = referenceMerge(layers);
      const want = filterListing(listing, patterns);
      const got = await merge(layers, patterns);
      assert.deepEqual(diffTrees(want, got.listing, { anyTime: implied }), []);
      assert.equal(got.excluded?.count ?? 0, listing.size - want.size, 'the report counts them');
    }),
    { numRuns },
  );
});

test('bytes of what is left out are never stored', async () => {
  const layers = [
    [dir('a'), file('a/big', Buffer.alloc(50 * BLOCK, 1)), file('kept', Buffer.alloc(BLOCK, 2))],
    [dir('a'), file('a/more', Buffer.alloc(50 * BLOCK, 3))],
  ];
  const { storedBlocks, paths } = await merge(layers, { exclude: ['a'] });
  assert.deepEqual([storedBlocks, paths], [1, ['kept']]);
});

test('a hard link whose first name goes keeps its content, read a second time', async () => {
  const content = Buffer.alloc(3 * BLOCK, 7);
  const layers = [[dir('d'), file('d/first', content), hardlink('second', 'd/first')]];
  const { listing, usedBlocks, fidelity } = await merge(layers, { exclude: ['d'] });
  const whole = await merge(layers, {});
  const [second, first] = [[...listing.values()].at(-1), [...whole.listing.values()].at(-1)];
  assert.deepEqual([...listing.keys()], ['', 'second']);
  assert.deepEqual([second?.sha256, second?.hardlinkOf], [first?.sha256, '']);
  assert.deepEqual([usedBlocks, fidelity.count('second_read')], [3, 1]);
});

test('a hard link that goes itself asks for no bytes of a layer below', async () => {
  const layers = [
    [file('old', Buffer.alloc(20 * BLOCK, 7))],
    [dir('d'), hardlink('d/link', 'old'), whiteout('old')],
  ];
  const whole = await merge(layers, {});
  assert.deepEqual([whole.storedBlocks, whole.fidelity.count('second_read')], [20, 0]);
  const { storedBlocks, paths, fidelity } = await merge(layers, { exclude: ['d'] });
  assert.deepEqual([storedBlocks, paths, fidelity.count('second_read')], [0, [], 0]);
});

test('names are those of the tree: a symlink on the way of an entry is followed first', async () => {
  const layers = [[dir('real'), symlink('via', 'real'), file('via/x', 'x'), file('real/y', 'y')]];
  assert.deepEqual((await merge(layers, { exclude: ['via/x'] })).paths, [
    'real',
    'real/x',
    'real/y',
    'via',
  ]);
  assert.deepEqual((await merge(layers, { exclude: ['real/x'] })).paths, ['real', 'real/y', 'via']);
});

test('the directories above a preserved path stay, and nothing else of what goes', async () => {
  const layers = [
    [dir('a'), dir('a/b'), file('a/b/keep', '1'), file('a/b/go', '2'), dir('a/c'), file('a/c/x')],
    [whiteout('a/c/x'), file('a/d/z', '3')],
  ];
  const { paths, excluded } = await merge(layers, { exclude: ['a'], preserve: ['**/keep'] });
  assert.deepEqual(paths, ['a', 'a/b', 'a/b/keep']);
  assert.deepEqual(excluded?.examples.toSorted(), ['/a/b/go', '/a/c', '/a/d']);
  assert.equal(excluded?.count, 4);
});

test('everything can go but the root', async () => {
  const { paths, excluded } = await merge([[dir('a'), file('a/b', 'x'), file('c', 'y')]], {
    exclude: ['**'],
  });
  assert.deepEqual([paths, excluded?.count], [[], 3]);
});

test('the report shows a hundred of the names, and counts all', async () => {
  const names = Array.from({ length: 150 }, (_each, index) => file(`f${index}`, 'x'));
  const { excluded } = await merge([names], { exclude: ['f*'] });
  assert.deepEqual([excluded?.count, excluded?.examples.length], [150, 100]);
});
