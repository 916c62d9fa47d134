import type { ByteString } from '../../core/bytes.ts';
import type { MergeBudget } from './budget.ts';
import type { MergeInode, MergeNode } from './node.ts';
import { isDirectory } from './overlay.ts';
import { isAbsolute, MAX_SYMLINK_HOPS, PARENT, splitTarget } from './path.ts';

/** A name at or below which directories wait for metadata. */
interface Waiting {
  inodes: MergeInode[];
  children: Map<ByteString, Waiting> | undefined;
}

/** A directory of a layer and the way to it, free of symlinks. */
interface Place {
  readonly node: MergeNode;
  readonly parent: Place | undefined;
  readonly name: ByteString;
  waiting: Waiting | undefined;
}

interface Moved {
  readonly place: Place;
  readonly inodes: readonly MergeInode[];
}

/**
 * Directories without an entry of their own. Each takes the metadata of the first lower layer's
 * directory at its place, found through that layer's symlinks, as containerd does when it makes a
 * missing parent. Kept as a tree of names that is walked beside each layer's tree, because a
 * hostile image can have 500,000 of them, a thousand levels deep, in each of 127 layers.
 */
export class ImpliedDirectories {
  readonly #root: Waiting = newWaiting();
  readonly #budget: MergeBudget;

  constructor(budget: MergeBudget) {
    this.#budget = budget;
  }

  /** Collects those of a layer; its root is not one of them. */
  add(layerRoot: MergeNode): void {
    this.#collect({ node: layerRoot, parent: undefined, name: NO_NAME, waiting: this.#root });
  }

  /** Lets a lower layer speak for those that it has something for. */
  settle(layerRoot: MergeNode): void {
    const moved: Moved[] = [];
    const top = { node: layerRoot, parent: undefined, name: NO_NAME, waiting: undefined };
    this.#visit(this.#root, top, 0, false, moved);
    for (const { place, inodes } of moved) {
      const waiting = this.#waitingAt(place);
      for (const inode of inodes) waiting.inodes.push(inode);
    }
  }

  #collect(place: Place): void {
    for (const [name, node] of place.node.children ?? []) {
      if (!isDirectory(node)) continue;
      const child: Place = { node, parent: place, name, waiting: undefined };
      if (node.implied) this.#waitingAt(child).inodes.push(node.inode);
      this.#collect(child);
    }
  }

  /** `isMoved`: a symlink led here, so the place has another name than `waiting`. */
  #visit(waiting: Waiting, here: Place, hops: number, isMoved: boolean, moved: Moved[]): void {
    const { children } = waiting;
    const present = here.node.children;
    if (children === undefined || present === undefined) return;
    // The shorter list decides the cost: what the layer does not have stays untouched.
    const names = children.size <= present.size ? children.keys() : present.keys();
    for (const name of names) {
      const child = children.get(name);
      const node = present.get(name);
      if (child === undefined || node === undefined) continue;
      if (node.inode.kind === 'symlink' && node.below === undefined) {
        const end = this.#follow(here, node, hops);
        if (end === undefined) continue;
        this.#meet(child, end.place, end.hops, true, moved);
      } else {
        const place = { node, parent: here, name, waiting: undefined };
        this.#meet(child, place, hops, isMoved, moved);
      }
      if (child.inodes.length === 0 && (child.children?.size ?? 0) === 0) children.delete(name);
    }
  }

  #meet(waiting: Waiting, place: Place, hops: number, isMoved: boolean, moved: Moved[]): void {
    const { node } = place;
    if (!isDirectory(node)) {
      waiting.inodes = [];
      return;
    }
    if (!node.implied) {
      for (const inode of waiting.inodes) copyMetadata(node.inode, inode);
      waiting.inodes = [];
    } else if (isMoved && waiting.inodes.length > 0) {
      moved.push({ place, inodes: waiting.inodes });
      waiting.inodes = [];
    }
    this.#visit(waiting, place, hops, isMoved, moved);
  }

  /** Where a symlink leads within the layer; the last name need not be a directory. */
  #follow(
    from: Place,
    symlink: MergeNode,
    hopsBefore: number,
  ): { place: Place; hops: number } | undefined {
    const queue: ByteString[] = [];
    let hops = hopsBefore;
    let here = from;
    let next: MergeNode = symlink;
    for (;;) {
      if (++hops > MAX_SYMLINK_HOPS) return undefined;
      const target = splitTarget(next.inode.target);
      this.#budget.countSymlink(target.length);
      if (isAbsolute(next.inode.target)) here = rootOf(here);
      for (let i = target.length - 1; i >= 0; i--) queue.push(target[i] ?? NO_NAME);
      let isSymlink = false;
      for (let part = queue.pop(); part !== undefined; part = queue.pop()) {
        if (part === PARENT) {
          here = here.parent ?? here;
          continue;
        }
        const child = here.node.children?.get(part);
        if (child === undefined) return undefined;
        if (child.inode.kind === 'symlink' && child.below === undefined) {
          next = child;
          isSymlink = true;
          break;
        }
        if (!isDirectory(child) && queue.length > 0) return undefined;
        here = { node: child, parent: here, name: part, waiting: undefined };
      }
      if (!isSymlink) return { place: here, hops };
    }
  }

  #waitingAt(place: Place): Waiting {
    if (place.parent === undefined) return this.#root;
    if (place.waiting !== undefined) return place.waiting;
    const parent = this.#waitingAt(place.parent);
    parent.children ??= new Map();
    let waiting = parent.children.get(place.name);
    if (waiting === undefined) {
      waiting = newWaiting();
      parent.children.set(place.name, waiting);
    }
    place.waiting = waiting;
    return waiting;
  }
}

const NO_NAME = '' as ByteString;

function newWaiting(): Waiting {
  return { inodes: [], children: undefined };
}

function rootOf(place: Place): Place {
  let root = place;
  while (root.parent !== undefined) root = root.parent;
  return root;
}

function copyMetadata(from: MergeInode, to: MergeInode): void {
  const { mode, uid, gid, mtimeSec, mtimeNsec, atimeSec, atimeNsec, xattrs } = from;
  Object.assign(to, { mode, uid, gid, mtimeSec, mtimeNsec, atimeSec, atimeNsec, xattrs });
}
