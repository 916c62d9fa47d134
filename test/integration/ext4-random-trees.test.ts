import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { e2fsckComplaint, makeImage, temporaryDirectory } from '../fixtures/ext4-image.ts';
import { Random, randomTree } from '../fixtures/random-tree.ts';
import type { Inode } from '../../src/rootfs/tree.ts';
import type { NodeSpec, TreeMaker } from '../fixtures/tree-maker.ts';

/** Thousands on demand: BUILDERD_TEST_EXT4_TREES=5000. */
const COUNT = Number(process.env['BUILDERD_TEST_EXT4_TREES'] ?? '150');

const size = fc.oneof(
  fc.constant({ kind: 'min' as const, extraBytes: 0 }),
  fc.nat(2 ** 29).map((extraBytes) => ({ kind: 'min' as const, extraBytes })),
  fc.integer({ min: 2 ** 28, max: 2 ** 31 }).map((bytes) => ({ kind: 'fixed' as const, bytes })),
);
const options = fc.record({
  size,
  journal: fc.boolean(),
  lostFound: fc.boolean(),
  label: fc.constantFrom('', 'sixteen bytes ok'),
});

test(`writeExt4() makes images of ${COUNT} random trees in which e2fsck finds nothing`, async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const entries = fc.oneof(fc.nat(30), fc.nat(600));
  await fc.assert(
    fc.asyncProperty(fc.nat(), entries, options, async (seed, entries, options) => {
      const random = new Random(seed);
      const spec = async (maker: TreeMaker): Promise<NodeSpec> => {
        const crumbs = await leaveRubbish(maker, random);
        const tree = randomTree(random, { entries, hugeFiles: true });
        const shared = await maker.inode({ content: Buffer.from('several names') });
        const names = Object.fromEntries(
          Array.from({ length: 1 + random.below(20) }, (_, at) => [`hard link ${at}`, shared]),
        );
        return { ...tree, children: { ...tree.children, ...names, crumbs } };
      };
      await makeImage(path, { spec, options });
      assert.equal(await e2fsckComplaint(path), undefined);
    }),
    { numRuns: COUNT, endOnFailure: true },
  );
});

/**
 * Blocks that earlier files held, full of rubbish, given back in runs of several sizes. What is
 * kept between them belongs to one file, which is returned.
 */
async function leaveRubbish(maker: TreeMaker, random: Random): Promise<Inode> {
  const kept: number[] = [];
  for (let count = random.below(12); count > 0; count -= 1) {
    for (const { start, count } of maker.file.allocator.allocate(1 + random.below(40))) {
      const bytes = Buffer.alloc(count * 4096, 0xee);
      await maker.file.handle.write(bytes, 0, bytes.length, start * 4096);
      const isCrumbled = random.pick(true, false);
      for (let at = 0; at < count; at += 1) {
        if (isCrumbled && at % 2 === 0) kept.push(kept.length / 3, start + at, 1);
        else maker.file.allocator.free({ start: start + at, count: 1 });
      }
    }
  }
  const inode = await maker.inode({});
  return Object.assign(inode, { extents: kept, size: (kept.length / 3) * 4096 });
}
