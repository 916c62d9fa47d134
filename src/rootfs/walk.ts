import type { ByteString } from '../core/bytes.ts';
import { sortedChildren, type TreeNode } from './tree.ts';

/**
 * Every name of a tree in the one order of all our formats: a directory before what it holds,
 * siblings by name bytes. Paths have no leading slash; the root, first, is "". Iterative, because
 * depth is the image's choice.
 */
export function* walkTree(root: TreeNode): Generator<{ path: ByteString; node: TreeNode }> {
  const queue: { path: ByteString; node: TreeNode }[] = [{ path: '' as ByteString, node: root }];
  for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
    yield item;
    if (item.node.children === undefined) continue;
    const prefix = item.path === '' ? '' : `${item.path}/`;
    const children = sortedChildren(item.node);
    for (let i = children.length - 1; i >= 0; i--) {
      const child = children[i];
      if (child !== undefined)
        queue.push({ path: `${prefix}${child[0]}` as ByteString, node: child[1] });
    }
  }
}
