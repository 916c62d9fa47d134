import assert from 'node:assert/strict';
import { mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { loadAddon } from '../../native/addon.ts';
import { newInode } from '../../src/rootfs/merge/node.ts';
import { FileBlockAllocator } from '../../src/rootfs/store/block-allocator.ts';
import { BLOCK_SIZE } from '../../src/rootfs/store/block-file.ts';
import { readContent } from '../../src/rootfs/store/content.ts';
import { CARRY_BLOCKS, FileWriter } from '../../src/rootfs/store/file-writer.ts';
import { PieceList, writePieces } from '../../src/rootfs/store/piece-writer.ts';

const SLAB = 4 * BLOCK_SIZE;

/** Content with runs of zeros, so that holes begin and end anywhere. */
const content = fc
  .array(fc.record({ zero: fc.boolean(), length: fc.integer({ min: 1, max: 3 * BLOCK_SIZE }) }), {
    maxLength: 6,
  })
  .map((runs) =>
    Buffer.concat(runs.map(({ zero, length }, i) => Buffer.alloc(length, zero ? 0 : i + 1))),
  );

/** Writes files one after another as a layer would bring them: cut into slabs at any place. */
async function store(
  files: readonly Buffer[],
  useAddon: boolean,
): Promise<{ read: Buffer[]; extents: string }> {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-file-writer-'));
  await using handle = await open(path.join(dir.path, 'store'), 'w+');
  const file = { handle, allocator: new FileBlockAllocator({ limit: 1 << 20 }) };
  const addon = useAddon ? loadAddon() : undefined;
  const writer = new FileWriter(file);
  const stream = Buffer.concat(files);
  const ends = files.map((_, i) => files.slice(0, i + 1).reduce((sum, one) => sum + one.length, 0));
  const inodes = files.map((one) => Object.assign(newInode('file', 0), { size: one.length }));
  let index = 0;
  for (let at = 0; at < stream.length || index < files.length; at += SLAB) {
    const slab = Buffer.alloc(SLAB + CARRY_BLOCKS * BLOCK_SIZE, 0xee);
    const length = stream.copy(slab, 0, at, at + SLAB);
    const pieces = new PieceList();
    writer.useSlab(slab, SLAB, pieces);
    for (let from = at; index < files.length; ) {
      const start = (ends[index] ?? 0) - (files[index]?.length ?? 0);
      const end = ends[index] ?? 0;
      if (from === start) writer.begin(end - start);
      const to = Math.min(end, at + length);
      if (to > from) writer.write(slab, from - at, to - at, from - start);
      from = to;
      if (to < end) break;
      const inode = inodes[index];
      if (inode !== undefined) inode.extents = writer.finish();
      index++;
    }
    await writePieces(addon, handle, slab, pieces);
  }
  const read = [];
  for (const inode of inodes) read.push(await readContent(addon, handle, inode));
  return { read, extents: JSON.stringify(inodes.map((inode) => inode.extents)) };
}

test('FileWriter gives back every byte, whatever the slab borders, with and without the addon', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(content, { minLength: 1, maxLength: 5 }), async (files) => {
      const native = await store(files, true);
      const plain = await store(files, false);
      assert.deepEqual(native.read, files);
      assert.deepEqual(plain.read, files);
      assert.equal(native.extents, plain.extents);
    }),
    { numRuns: 60 },
  );
});

test('FileWriter stores no block of zeros', async () => {
  const { extents, read } = await store([Buffer.alloc(10 * BLOCK_SIZE + 5)], true);
  assert.equal(extents, '[[]]');
  assert.equal(read[0]?.length, 10 * BLOCK_SIZE + 5);
});

test('FileWriter makes the same holes wherever the file lies in the stream', async () => {
  const holey = Buffer.alloc(9 * BLOCK_SIZE);
  holey.fill(7, 0, BLOCK_SIZE);
  holey.fill(9, 8 * BLOCK_SIZE);
  const shapes = new Set<string>();
  for (const before of [0, 1, 511, 512, 4095, 5000]) {
    const { extents } = await store([Buffer.alloc(before), holey], true);
    const last = (JSON.parse(extents) as number[][]).at(-1) ?? [];
    shapes.add(last.filter((_, i) => i % 3 !== 1).join());
  }
  assert.deepEqual([...shapes], ['0,1,8,1']);
});
