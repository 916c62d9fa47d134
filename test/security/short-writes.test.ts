import assert from 'node:assert/strict';
import { type FileHandle, mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { addToTree } from '../../src/rootfs/add-to-tree.ts';
import { FidelityLog } from '../../src/rootfs/fidelity.ts';
import { LayerMerger } from '../../src/rootfs/merge/layer-merger.ts';
import { FileBlockAllocator } from '../../src/rootfs/store/block-allocator.ts';
import { readContent } from '../../src/rootfs/store/content.ts';
import { lookup } from '../../src/rootfs/tree-lookup.ts';

/** As a nearly full disk does: less than asked for is written, and nothing is said. */
function writesLittle(handle: FileHandle): FileHandle {
  const write = handle.write.bind(handle);
  Object.defineProperty(handle, 'write', {
    value: (bytes: Buffer, from = 0, length = bytes.length - from, at?: number) =>
      write(bytes, from, Math.min(length, 1000), at),
  });
  return handle;
}

test('a disk that takes a part of a write does not cut an added file', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-short-'));
  await using handle = writesLittle(await open(path.join(dir.path, 'store'), 'wx+'));
  const fidelity = new FidelityLog();
  const policy = { devices: 'keep', sourceDateEpoch: undefined } as const;
  const merger = new LayerMerger({ policy, fidelity, onRelease: () => {} });
  merger.finishLayer(merger.beginLayer(0), 0);
  const content = Buffer.alloc(10_000, 'guest');
  const addition = {
    parent: bytesOf('/'),
    name: bytesOf('init'),
    kind: 'file',
    mode: 0o755,
    content,
    replaces: false,
  } as const;
  const file = { handle, allocator: new FileBlockAllocator({ limit: 10_000 }) };
  const tree = await addToTree(merger.finish().tree, [addition], file, fidelity);
  const found = lookup(tree, bytesOf('/init'));
  assert.ok(found.kind === 'found');
  assert.deepEqual(await readContent(undefined, handle, found.node.inode), content);
});
