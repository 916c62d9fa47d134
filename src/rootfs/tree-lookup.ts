import type { ByteString } from '../core/bytes.ts';
import type { MergedTree, TreeNode } from './tree.ts';

/** Linux follows at most 40 symlinks in one path look-up (MAXSYMLINKS, include/linux/namei.h). */
const MAX_HOPS = 40;

export type Lookup =
  | {
      readonly kind: 'found';
      readonly node: TreeNode;
      /** Absolute, free of symlinks, "." and "..". "/" for the root. */
      readonly path: ByteString;
    }
  | {
      readonly kind: 'missing';
      /** The deepest directory that exists, absolute and free of symlinks. */
      readonly parent: ByteString;
      /** What is missing below it; the first is not in the tree. May hold "..". */
      readonly rest: readonly ByteString[];
    }
  /** A component that must be a directory is something else. */
  | { readonly kind: 'not_a_directory'; readonly path: ByteString }
  | { readonly kind: 'loop' };

export interface LookupOptions {
  /** False: a symlink as the last component is itself the answer. */
  readonly followLast?: boolean;
}

/**
 * Resolves a path inside the tree as the kernel would with the tree as its root: symlinks are
 * followed inside the tree only, ".." stops at the root, and nothing of the host is touched.
 */
export function lookup(tree: MergedTree, path: ByteString, options: LookupOptions = {}): Lookup {
  const followLast = options.followLast ?? true;
  let names: ByteString[] = [];
  let nodes: TreeNode[] = [tree.root];
  let todo = components(path).reverse();
  let hops = 0;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    const here = nodes.at(-1) ?? tree.root;
    if (here.children === undefined) return { kind: 'not_a_directory', path: joined(names) };
    if (name === '.') continue;
    if (name === '..') {
      names.pop();
      if (nodes.length > 1) nodes.pop();
      continue;
    }
    const child = here.children.get(name);
    if (child === undefined) {
      return { kind: 'missing', parent: joined(names), rest: [name, ...todo.reverse()] };
    }
    if (child.inode.kind === 'symlink' && (todo.length > 0 || followLast)) {
      if (++hops > MAX_HOPS) return { kind: 'loop' };
      const { target } = child.inode;
      // The kernel answers ENOENT for an empty target; no mkdir could make it exist.
      if (target === '') return { kind: 'missing', parent: joined(names), rest: [name] };
      if (target.startsWith('/')) {
        names = [];
        nodes = [tree.root];
      }
      todo = todo.concat(components(target).reverse());
      continue;
    }
    names.push(name);
    nodes.push(child);
  }
  const node = nodes.at(-1) ?? tree.root;
  return { kind: 'found', node, path: joined(names) };
}

/** A trailing slash demands a directory: it becomes a last component ".". */
function components(path: ByteString): ByteString[] {
  const names = path.split('/').filter((name) => name !== '') as ByteString[];
  if (path.endsWith('/')) names.push('.' as ByteString);
  return names;
}

function joined(names: readonly ByteString[]): ByteString {
  return `/${names.join('/')}` as ByteString;
}
