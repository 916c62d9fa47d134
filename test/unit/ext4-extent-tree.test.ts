import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import { crc32c } from '../../src/rootfs/ext4/crc32c.ts';
import {
  normaliseExtents,
  writeExtentTree,
  type BlockSink,
} from '../../src/rootfs/ext4/extent-tree.ts';

const SEED = 0x12345678;
const FIRST_BLOCK = 5000;

/** Blocks in memory, numbered from FIRST_BLOCK. */
class MemorySink implements BlockSink {
  readonly blocks: Buffer[] = [];
  #next = FIRST_BLOCK;

  takeOne(): number {
    this.#next += 1;
    return this.#next - 1;
  }

  block(number: number): Buffer {
    return (this.blocks[number - FIRST_BLOCK] ??= Buffer.alloc(4096));
  }
}

/** Reads a tree back the way the kernel's documentation describes it. */
function readTree(node: Buffer, sink: MemorySink): { extents: number[]; depth: number } {
  assert.equal(node.readUInt16LE(0), 0xf30a);
  const depth = node.readUInt16LE(6);
  const extents: number[] = [];
  for (let at = 12; at < 12 + node.readUInt16LE(2) * 12; at += 12) {
    if (depth === 0) {
      extents.push(node.readUInt32LE(at), node.readUInt32LE(at + 8), node.readUInt16LE(at + 4));
      continue;
    }
    const child = sink.block(node.readUInt32LE(at + 4));
    assert.equal(child.readUInt32LE(4092), crc32c(SEED, child, 0, 4092));
    assert.equal(child.readUInt16LE(6), depth - 1);
    const below = readTree(child, sink);
    assert.equal(node.readUInt32LE(at), below.extents[0]);
    extents.push(...below.extents);
  }
  return { extents, depth };
}

/** The store block behind a block of the file, or -1 in a hole. */
function placeOf(extents: readonly number[], block: number): number {
  for (let at = 0; at < extents.length; at += 3) {
    const into = block - (extents[at] ?? 0);
    if (into >= 0 && into < (extents[at + 2] ?? 0)) return (extents[at + 1] ?? 0) + into;
  }
  return -1;
}

const SHAPES = [
  ['nothing', 0, 0, 0],
  ['what the inode holds', 4, 0, 0],
  ['one leaf', 5, 1, 1],
  ['one full leaf', 340, 1, 1],
  ['four full leaves', 1360, 1, 4],
  ['one extent more', 1361, 2, 6],
  ['thousands', 10_000, 2, 31],
] as const;

for (const [name, count, depth, blocks] of SHAPES) {
  test(`writeExtentTree() takes ${blocks} blocks for ${name}`, () => {
    const extents = Array.from({ length: count }, (_, at) => [at * 2, 100 + at * 2, 1]).flat();
    const sink = new MemorySink();
    const root = Buffer.alloc(60);
    assert.equal(writeExtentTree(extents, root, SEED, sink), blocks);
    assert.deepEqual(readTree(root, sink), { extents, depth });
  });
}

test('normaliseExtents() joins neighbours and cuts what is too long for one extent', () => {
  assert.deepEqual(normaliseExtents([0, 100, 3, 3, 103, 2, 7, 107, 1], 8), [0, 100, 5, 7, 107, 1]);
  assert.deepEqual(
    normaliseExtents([0, 100, 32760, 32760, 32860, 70_000], 200_000),
    [0, 100, 32768, 32768, 32868, 32768, 65536, 65636, 32768, 98304, 98404, 4456],
  );
});

test('normaliseExtents() keeps every block of a file where it was', () => {
  const piece = fc.record({
    gap: fc.nat(3),
    jump: fc.constantFrom(0, 1, 50_000),
    count: fc.integer({ min: 1, max: 70_000 }),
  });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const list: number[] = [];
      let logical = 0;
      let physical = 1000;
      for (const { gap, jump, count } of pieces) {
        logical += gap;
        physical += jump;
        list.push(logical, physical, count);
        logical += count;
        physical += count;
      }
      const got = normaliseExtents(list, logical);
      for (let at = 2; at < got.length; at += 3) assert.ok((got[at] ?? 0) <= 32768);
      for (let block = 0; block < logical; block += 997) {
        assert.equal(placeOf(got, block), placeOf(list, block));
      }
    }),
    { numRuns: 50 },
  );
});

test('normaliseExtents() refuses lists that would damage the disk', () => {
  for (const list of [
    [0, 10, 2, 1, 20, 1],
    [0, 10, 0],
    [5, 10, 4],
    [0, -1, 1],
    [-1, 5, 1],
    [0, 5],
  ]) {
    assert.throws(
      () => normaliseExtents(list, 8),
      (reason) => isBuilderdError(reason, 'internal'),
      list.join(),
    );
  }
});
