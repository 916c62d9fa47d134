import type { ByteString } from '../../core/bytes.ts';
import type { MergeNode } from './node.ts';
import { isDirectory } from './overlay.ts';
import { isAbsolute, MAX_SYMLINK_HOPS, PARENT, splitTarget } from './path.ts';

/** The directories of several layers that overlayfs would show as one, top first. */
type Stack = readonly MergeNode[];

/**
 * Looks a path up in a stack of layer trees (top first) as overlayfs would, following symlinks in
 * the directories it passes, and in the last component when `followLast`. Undefined when nothing
 * is there; the node may be a whiteout.
 */
export function lookUp(
  roots: Stack,
  path: readonly ByteString[],
  { followLast }: { followLast: boolean },
): { node: MergeNode; path: readonly ByteString[] } | undefined {
  const queue = [...path].reverse();
  let stacks: Stack[] = [roots];
  let names: ByteString[] = [];
  let hops = 0;
  for (let part = queue.pop(); part !== undefined; part = queue.pop()) {
    if (part === PARENT) {
      if (stacks.length > 1) stacks = stacks.slice(0, -1);
      names = names.slice(0, -1);
      continue;
    }
    const found = step(stacks.at(-1) ?? [], part);
    const top = found[0];
    if (top === undefined) return undefined;
    const isSymlink = top.inode.kind === 'symlink' && top.below === undefined;
    if (queue.length === 0 && !(isSymlink && followLast))
      return { node: top, path: [...names, part] };
    if (isSymlink) {
      if (++hops > MAX_SYMLINK_HOPS) return undefined;
      if (isAbsolute(top.inode.target)) {
        stacks = [roots];
        names = [];
      }
      queue.push(...splitTarget(top.inode.target).reverse());
      continue;
    }
    if (!isDirectory(top)) return undefined;
    stacks.push(found);
    names.push(part);
  }
  const top = stacks.at(-1)?.[0];
  return top === undefined ? undefined : { node: top, path: names };
}

/** The nodes that make up one name: several only where directories merge. Empty: not there. */
function step(directories: Stack, name: ByteString): Stack {
  const found: MergeNode[] = [];
  for (const directory of directories) {
    const child = directory.children?.get(name);
    if (child !== undefined) {
      if (!isDirectory(child)) return found.length === 0 ? [child] : found;
      found.push(child);
      if (child.opaque) return found;
    }
    if (directory.opaque) return found;
  }
  return found;
}
