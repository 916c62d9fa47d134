import { BuilderdError } from '../../core/errors.ts';
import type { MergedTree } from '../tree.ts';
import type { MergeInode, MergeNode } from './node.ts';

export interface SealedTree {
  readonly tree: MergedTree & { readonly root: MergeNode };
  /** Visible files whose data was hidden when their layer was read. */
  readonly needed: readonly MergeInode[];
}

interface Tally {
  entries: number;
  inodes: number;
  directories: number;
  contentBytes: number;
  contentBlocks: number;
}

/**
 * Turns the merged layers into what writers take: whiteouts vanish, links into lower layers get
 * their inode, names are counted. Iterative, because depth is the image's choice.
 */
export function sealTree(root: MergeNode): SealedTree {
  const counts: Tally = {
    entries: 0,
    inodes: 1,
    directories: 1,
    contentBytes: 0,
    contentBlocks: 0,
  };
  const needed: MergeInode[] = [];
  const queue: MergeNode[] = [root];
  root.inode.links = 1;
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    for (const [name, child] of node.children ?? []) {
      if (child.whiteout) {
        node.children?.delete(name);
        continue;
      }
      if (child.below !== undefined) {
        if (child.below.inode === undefined)
          throw new BuilderdError('internal', 'Cannot seal the tree: a link was not resolved');
        child.inode = child.below.inode;
      }
      countNode(child, counts, needed);
      if (child.children !== undefined) queue.push(child);
    }
  }
  return { tree: { root, counts }, needed };
}

function countNode(node: MergeNode, counts: Tally, needed: MergeInode[]): void {
  const { inode } = node;
  counts.entries++;
  if (++inode.links > 1) return;
  counts.inodes++;
  if (inode.kind === 'dir') counts.directories++;
  counts.contentBytes += inode.kind === 'file' ? inode.size : 0;
  for (let i = 2; i < inode.extents.length; i += 3) counts.contentBlocks += inode.extents[i] ?? 0;
  if (inode.data === 'skipped' || inode.data === 'needed') needed.push(inode);
}
