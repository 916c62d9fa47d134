import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import {
  BLOCKS_PER_GROUP,
  hasSuperblockCopy,
  nextSuperblockCopy,
  reservedAtGroupStart,
} from '../../src/rootfs/ext4/geometry.ts';
import { FileBlockAllocator } from '../../src/rootfs/store/block-allocator.ts';
import type { BlockRun } from '../../src/rootfs/store/block-file.ts';

const refused = (reason: unknown): boolean => isBuilderdError(reason, 'internal');
const NO_LIMIT = { limit: 2 ** 28 };

test('FileBlockAllocator.allocate() starts behind the descriptor area of group 0', () => {
  const allocator = new FileBlockAllocator(NO_LIMIT);
  assert.deepEqual(allocator.allocate(10), [{ start: 129, count: 10 }]);
  assert.equal(allocator.end, 139);
});

test('FileBlockAllocator.allocate() steps over the copies in groups 1 and 3 but not 2', () => {
  const allocator = new FileBlockAllocator(NO_LIMIT);
  assert.deepEqual(allocator.allocate(4 * BLOCKS_PER_GROUP - 3 * 129), [
    { start: 129, count: BLOCKS_PER_GROUP - 129 },
    { start: BLOCKS_PER_GROUP + 129, count: 2 * BLOCKS_PER_GROUP - 129 },
    { start: 3 * BLOCKS_PER_GROUP + 129, count: BLOCKS_PER_GROUP - 129 },
  ]);
  assert.deepEqual(allocator.freeRuns(), []);
});

test('FileBlockAllocator.free() makes later calls reuse the blocks, lowest fit first', () => {
  const allocator = new FileBlockAllocator(NO_LIMIT);
  const [a, b, c] = [allocator.allocate(10), allocator.allocate(10), allocator.allocate(10)];
  for (const run of [...a, ...c]) allocator.free(run);
  assert.deepEqual(allocator.allocate(4), [{ start: 129, count: 4 }]);
  assert.deepEqual(allocator.freeRuns(), [
    { start: 133, count: 6 },
    { start: 149, count: 10 },
  ]);
  for (const run of b) allocator.free(run);
  assert.deepEqual(allocator.freeRuns(), [{ start: 133, count: 26 }]);
  assert.deepEqual(allocator.allocate(26), [{ start: 133, count: 26 }]);
  assert.equal(allocator.end, 159);
});

test('FileBlockAllocator.free() refuses what was never allocated and what is free already', () => {
  const allocator = new FileBlockAllocator(NO_LIMIT);
  allocator.allocate(10);
  assert.throws(() => allocator.free({ start: 200, count: 1 }), refused);
  allocator.free({ start: 130, count: 2 });
  assert.throws(() => allocator.free({ start: 130, count: 2 }), refused);
});

test('FileBlockAllocator.allocate() refuses to pass the limit and then still works', () => {
  const allocator = new FileBlockAllocator({ limit: 149 });
  const first = allocator.allocate(15);
  for (const run of first) allocator.free({ start: run.start, count: 3 });
  const before = allocator.freeRuns();
  assert.throws(
    () => allocator.allocate(9),
    (reason) => isBuilderdError(reason, 'archive.limit'),
  );
  assert.deepEqual(allocator.freeRuns(), before);
  assert.deepEqual(allocator.allocate(5), [{ start: 144, count: 5 }]);
});

test('FileBlockAllocator never hands out a block twice, nor a reserved one, whatever is asked', () => {
  const step = fc.record({
    free: fc.boolean(),
    count: fc.integer({ min: 1, max: 9000 }),
    pick: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const allocator = new FileBlockAllocator(NO_LIMIT);
      const twin = new FileBlockAllocator(NO_LIMIT);
      const held: BlockRun[] = [];
      for (const { free, count, pick } of steps) {
        if (free && held.length > 0) {
          const [run] = held.splice(pick % held.length, 1);
          if (run === undefined) continue;
          allocator.free(run);
          twin.free(run);
        } else {
          const runs = allocator.allocate(count);
          assert.deepEqual(twin.allocate(count), runs);
          assert.equal(
            runs.reduce((sum, run) => sum + run.count, 0),
            count,
          );
          held.push(...runs);
        }
      }
      // Held, free and reserved blocks cover everything below the end exactly once.
      const reserved: BlockRun[] = [];
      for (let group = 0; group * BLOCKS_PER_GROUP < allocator.end; group += 1) {
        const count = reservedAtGroupStart(group);
        if (count > 0) reserved.push({ start: group * BLOCKS_PER_GROUP, count });
      }
      const all = [...held, ...allocator.freeRuns(), ...reserved].sort((a, b) => a.start - b.start);
      let at = 0;
      for (const run of all) {
        assert.equal(run.start, at);
        at += run.count;
      }
      assert.equal(at, allocator.end);
    }),
    { numRuns: 200 },
  );
});

test('FileBlockAllocator.allocate() cuts a request into few pieces even when holes are tiny', () => {
  const allocator = new FileBlockAllocator(NO_LIMIT);
  const ones = Array.from({ length: 2000 }, () => allocator.allocate(1)).flat();
  for (const [at, run] of ones.entries()) if (at % 2 === 0) allocator.free(run);
  assert.ok(allocator.allocate(1000).length <= 9);
});

test('nextSuperblockCopy() finds the groups that hasSuperblockCopy() names', () => {
  const walked: number[] = [];
  for (let group = nextSuperblockCopy(0); group < 8128; group = nextSuperblockCopy(group))
    walked.push(group);
  const named = Array.from({ length: 8127 }, (_, at) => at + 1).filter(hasSuperblockCopy);
  assert.deepEqual(walked, named);
});
