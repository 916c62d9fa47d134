import { type ByteString, escapeBytes } from '../core/bytes.ts';
import { BuilderdError } from '../core/errors.ts';
import type { FidelityLog } from './fidelity.ts';
import type { TreeAddition } from './guest/plan-guest-files.ts';
import { type MergeNode, newInode, newNode } from './merge/node.ts';
import type { SealedTree } from './merge/seal.ts';
import { BLOCK_SIZE, type BlockFile } from './store/block-file.ts';
import { writeAll } from './store/piece-writer.ts';
import { lookup } from './tree-lookup.ts';

/**
 * Puts planned files and directories into a finished tree, owned by 0:0, times at the epoch.
 * Their content goes into the block file like any other. Order matters: a later one may lie in an
 * earlier one.
 */
export async function addToTree(
  tree: SealedTree['tree'],
  additions: readonly TreeAddition[],
  file: BlockFile,
  fidelity: FidelityLog,
): Promise<SealedTree['tree']> {
  const counts = { ...tree.counts };
  for (const addition of additions) {
    const parent = lookup(tree, addition.parent, { followLast: false });
    const directory = parent.kind === 'found' ? (parent.node as MergeNode) : undefined;
    if (directory?.children === undefined) {
      throw new BuilderdError(
        'artifact.unrepresentable',
        `Cannot add "${escapeBytes(addition.name)}" to "${escapeBytes(addition.parent)}": it is not a directory of the image`,
      );
    }
    const old = directory.children.get(addition.name);
    if (old !== undefined) old.inode.links--;
    else counts.entries++;
    counts.inodes++;
    const node = newNode(newInode(addition.kind, -1));
    node.inode.mode = addition.mode;
    node.inode.links = 1;
    if (addition.kind === 'dir') counts.directories++;
    else {
      node.inode.size = addition.content.length;
      node.inode.extents = await store(file, addition.content);
      counts.contentBytes += addition.content.length;
      counts.contentBlocks += Math.ceil(addition.content.length / BLOCK_SIZE);
    }
    directory.children.set(addition.name, node);
    const path = `${addition.parent === '/' ? '' : addition.parent}/${addition.name}` as ByteString;
    fidelity.note(addition.kind === 'dir' ? 'mount_point_added' : 'guest_file_added', path);
  }
  return { ...tree, counts };
}

async function store(file: BlockFile, content: Buffer): Promise<number[]> {
  const extents: number[] = [];
  const blocks = Math.ceil(content.length / BLOCK_SIZE);
  const padded = Buffer.alloc(blocks * BLOCK_SIZE);
  content.copy(padded);
  let logical = 0;
  for (const run of file.allocator.allocate(blocks)) {
    const from = logical * BLOCK_SIZE;
    const bytes = padded.subarray(from, from + run.count * BLOCK_SIZE);
    await writeAll(file.handle, bytes, run.start * BLOCK_SIZE);
    extents.push(logical, run.start, run.count);
    logical += run.count;
  }
  return extents;
}
