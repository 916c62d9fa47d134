import assert from 'node:assert/strict';
import { mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { BlockWriter } from '../../src/rootfs/ext4/block-writer.ts';
import { InodeTable } from '../../src/rootfs/ext4/inode-table.ts';
import { Space } from '../../src/rootfs/ext4/space.ts';
import { TreeWriter } from '../../src/rootfs/ext4/tree-writer.ts';
import type { BlockRun } from '../../src/rootfs/store/block-file.ts';
import { plainTree } from '../fixtures/plain-tree.ts';

/** Counts the blocks that wait in memory. */
class CountingWriter extends BlockWriter {
  waiting = 0;
  most = 0;

  override block(number: number): Buffer {
    this.most = Math.max(this.most, ++this.waiting);
    return super.block(number);
  }

  override async drain(): Promise<void> {
    await super.drain();
    this.waiting = 0;
  }
}

test('B41 a directory of 20,000 symlinks with a block each does not gather them in memory', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-ext4-'));
  await using handle = await open(path.join(dir.path, 'disk'), 'wx+');
  const names = Array.from({ length: 20_000 }, (_, at): [string, string] => [
    `l${at}`,
    'x'.repeat(100),
  ]);
  const { tree } = plainTree(Object.fromEntries(names));
  const { signal } = new AbortController();
  const writer = new CountingWriter(handle, signal);
  const space = new Space([], 2000);
  const table = new InodeTable();
  const input = { space, writer, table, fsSeed: 1, hashSeed: Buffer.alloc(16) };
  await new TreeWriter({ ...input, lostFound: false, timestampSec: 0, signal }).write(tree);
  assert.ok(space.end > 22_000);
  assert.ok(writer.most < 1000, `${writer.most} blocks waited`);
});

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
