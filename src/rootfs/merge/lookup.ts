import type { ByteString } from '../../core/bytes.ts';
import type { MergeBudget } from './budget.ts';
import type { MergeNode } from './node.ts';
import { isDirectory } from './overlay.ts';
import { isAbsolute, MAX_SYMLINK_HOPS, PARENT, splitTarget } from './path.ts';

/** The directories of several layers that overlayfs would show as one, top first. */
type Stack = readonly MergeNode[];

/**
 * Looks names up in a stack of layer trees (top first) as overlayfs would. Remembers every
 * directory that it has stacked: a hostile image asks for two million names in 127 layers.
 */
export class StackedLayers {
  readonly #roots: Stack;
  readonly #budget: MergeBudget;
  readonly #known = new Map<Stack, Map<ByteString, Stack>>();

  constructor(roots: Stack, budget: MergeBudget) {
    this.#roots = roots;
    this.#budget = budget;
  }

  /**
   * Follows symlinks in the directories that it passes, not in the last component. Undefined when
   * nothing is there; the node may be a whiteout.
   */
  lookUp(path: readonly ByteString[]): MergeNode | undefined {
    const queue = [...path].reverse();
    let stacks: Stack[] = [this.#roots];
    let hops = 0;
    for (let part = queue.pop(); part !== undefined; part = queue.pop()) {
      if (part === PARENT) {
        if (stacks.length > 1) stacks.pop();
        continue;
      }
      const found = this.#step(stacks.at(-1) ?? [], part);
      const top = found[0];
      if (top === undefined || queue.length === 0) return top;
      if (top.inode.kind === 'symlink' && top.below === undefined) {
        if (++hops > MAX_SYMLINK_HOPS) return undefined;
        const target = splitTarget(top.inode.target);
        this.#budget.countSymlink(target.length);
        if (isAbsolute(top.inode.target)) stacks = [this.#roots];
        queue.push(...target.reverse());
        continue;
      }
      if (!isDirectory(top)) return undefined;
      stacks.push(found);
    }
    return stacks.at(-1)?.[0];
  }

  #step(directories: Stack, name: ByteString): Stack {
    let known = this.#known.get(directories);
    if (known === undefined) {
      known = new Map();
      this.#known.set(directories, known);
    }
    let found = known.get(name);
    if (found === undefined) {
      found = step(directories, name);
      known.set(name, found);
    }
    return found;
  }
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
