import type { ByteString } from '../../core/bytes.ts';
import type { FilterState } from '../filter/tree-filter.ts';
import type { Inode, InodeKind, TreeNode, Xattr } from '../tree.ts';

/** An inode while layers are read: it also knows where its data came from. */
export interface MergeInode extends Inode {
  xattrs: readonly Xattr[];
  /** Names in the layer that made it, while that layer is read. */
  refs: number;
  /** Index of the layer that made it, 0 = bottom. */
  readonly layer: number;
  /** Which of that layer's entries with data it is; finds it again in a second read. */
  readonly ordinal: number;
  /** 'skipped': an upper layer or the filter hides it, so its data was not kept. */
  data: 'none' | 'stored' | 'skipped' | 'needed';
}

/** A hard link whose target lies in a lower layer, which is read later. */
export interface LinkBelow {
  readonly layer: number;
  readonly path: ByteString;
  readonly target: readonly ByteString[];
  /** Metadata from the headers of all names, in order, for the inode when it is found. */
  readonly overrides: ((inode: MergeInode) => void)[];
  /** False while the filter drops all its names: nobody needs the data. */
  isWanted: boolean;
  inode: MergeInode | undefined;
}

/**
 * A name, in one layer's own tree (what an overlay upper directory would hold) and, after the
 * merge, in the stack of all layers read so far.
 */
export interface MergeNode extends TreeNode {
  inode: MergeInode;
  children: Map<ByteString, MergeNode> | undefined;
  /** Hides the name in every lower layer; not part of the result. */
  readonly whiteout: boolean;
  /** A directory whose lower counterparts are hidden (opaque, or below a non-directory). */
  opaque: boolean;
  /** A directory that exists only because something lies in it. */
  implied: boolean;
  /** Set for a hard link into a lower layer; `inode` is a stand-in until it is resolved. */
  readonly below: LinkBelow | undefined;
  /** For a directory of the layer being read: what the layers above have at its place. */
  above: Above;
  /** For a directory: what the filter says about it, if there is a filter. */
  readonly filter: FilterState | undefined;
}

/** The directory that this one merges into; 'hidden'; or undefined: nothing above. */
export type Above = MergeNode | 'hidden' | undefined;

export const NO_BYTES = '' as ByteString;
export const NO_XATTRS: readonly Xattr[] = [];
export const NO_EXTENTS: readonly number[] = [];

export function newInode(kind: InodeKind, layer: number, ordinal = -1): MergeInode {
  return {
    kind,
    mode: 0,
    uid: 0,
    gid: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    atimeSec: 0,
    atimeNsec: 0,
    xattrs: NO_XATTRS,
    size: 0,
    extents: NO_EXTENTS,
    target: NO_BYTES,
    devMajor: 0,
    devMinor: 0,
    links: 0,
    refs: 0,
    layer,
    ordinal,
    data: 'none',
  };
}

export function newNode(inode: MergeInode, above?: Above, filter?: FilterState): MergeNode {
  inode.refs++;
  return {
    inode,
    children: inode.kind === 'dir' ? new Map() : undefined,
    whiteout: false,
    opaque: false,
    implied: false,
    below: undefined,
    above,
    filter,
  };
}

/** Directories made by us: 0755 root:root, at the epoch (peers' trap 5.9). */
export function newImpliedDirectory(
  layer: number,
  above: Above,
  filter: FilterState | undefined,
): MergeNode {
  const inode = newInode('dir', layer);
  inode.mode = 0o755;
  const node = newNode(inode, above, filter);
  node.implied = true;
  return node;
}

export function newWhiteout(layer: number): MergeNode {
  return { ...newNode(newInode('char', layer)), whiteout: true };
}

export function newLinkBelow(below: LinkBelow): MergeNode {
  return { ...newNode(newInode('file', below.layer)), below };
}
