import type { ByteString } from '../../core/bytes.ts';
import type { Above, MergeNode } from './node.ts';

/** What the layers above have under `name` of a directory that itself merges into `above`. */
export function aboveChild(above: Above, name: ByteString): Above {
  if (above === undefined || above === 'hidden') return above;
  if (above.opaque) return 'hidden';
  const found = above.children?.get(name);
  if (found === undefined) return undefined;
  return isDirectory(found) ? found : 'hidden';
}

export function isDirectory(node: MergeNode): boolean {
  return node.children !== undefined;
}

/**
 * Puts a lower layer's directory under the merged one, as overlayfs stacks them: the upper name
 * wins, directories merge, a whiteout or a non-directory stops the search downwards, and so does
 * an opaque directory (kernel, Documentation/filesystems/overlayfs.rst). `lower` is consumed.
 * `onReplaced` hears of each symlink that gave way to a directory that only something below it made.
 */
export function mergeBelow(
  merged: MergeNode,
  lower: MergeNode,
  onReplaced: (names: readonly ByteString[]) => void,
  names: ByteString[] = [],
): void {
  if (merged.opaque || merged.children === undefined || lower.children === undefined) return;
  for (const [name, child] of lower.children) {
    const upper = merged.children.get(name);
    if (upper === undefined) merged.children.set(name, child);
    else if (isDirectory(upper)) {
      names.push(name);
      if (isDirectory(child)) mergeBelow(upper, child, onReplaced, names);
      else {
        if (upper.implied && !upper.opaque && child.inode.kind === 'symlink') onReplaced(names);
        upper.opaque = true;
      }
      names.pop();
    }
  }
  if (lower.opaque) merged.opaque = true;
}

/** A copy of the names of a tree; inodes are shared. Keeps a layer as it was before a merge. */
export function cloneNames(node: MergeNode): MergeNode {
  const copy = { ...node };
  if (node.children !== undefined) {
    copy.children = new Map();
    for (const [name, child] of node.children) copy.children.set(name, cloneNames(child));
  }
  return copy;
}
