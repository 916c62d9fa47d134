import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Space } from '../../src/rootfs/ext4/space.ts';
import type { BlockRun } from '../../src/rootfs/store/block-file.ts';

/** Free runs of the given lengths from block 2,000 on, one used block between two. */
function runsOf(lengths: readonly number[]): { runs: BlockRun[]; end: number } {
  const runs: BlockRun[] = [];
  let end = 2000;
  for (const count of lengths) {
    runs.push({ start: end, count });
    end += count + 1;
  }
  return { runs, end };
}

test('B34 tables of a large disk are placed among the crumbs that 300,000 replaced files left', () => {
  // Looking at each crumb for each of 8,000 tables would take 2,400,000,000 steps.
  const { runs, end } = runsOf(Array.from({ length: 300_000 }, () => 1));
  const space = new Space(runs, end);
  for (let at = 0; at < 8000; at++) assert.ok(space.takeRun(32) >= end);
  assert.equal(
    space.freeRuns().filter((run) => run.count === 1 && run.start < end).length,
    300_000,
  );
  assert.equal(space.takeOne(), 2000);
});

test('takeRun() gives the first run that is long enough, whatever was taken before', () => {
  const step = fc.record({ count: fc.integer({ min: 1, max: 9 }), one: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 40 }),
      fc.array(step),
      (lengths, steps) => {
        const { runs, end } = runsOf(lengths);
        const space = new Space(runs, end);
        for (const { count, one } of steps) {
          const before = space.freeRuns();
          const wanted = one ? before[0] : before.find((run) => run.count >= count);
          const given = one ? space.takeOne() : space.takeRun(count);
          if (wanted === undefined) assert.ok(given >= end);
          else assert.equal(given, wanted.start);
        }
      },
    ),
  );
});
