import type { ByteString } from '../core/bytes.ts';

export interface Xattr {
  readonly name: ByteString;
  readonly value: Buffer;
}

/**
 * Where a file's bytes lie in the block store: a flat list of triples
 * [first logical block, first store block, number of blocks], ascending by logical block.
 * Blocks that no triple covers read as zeros. Flat numbers keep 100,000 files small in memory.
 */
export type ExtentList = readonly number[];

export type InodeKind = 'file' | 'dir' | 'symlink' | 'char' | 'block' | 'fifo';

/** One file-system object. Several names may share it: that is a hard-link group. */
export interface Inode {
  readonly kind: InodeKind;
  /** Permission bits, 0 … 0o7777. */
  mode: number;
  /** 0 … 2^32-2. */
  uid: number;
  gid: number;
  /** Seconds since 1970, may be negative; within what ext4 can hold (-2^31 … 2^34-2^31-1). */
  mtimeSec: number;
  mtimeNsec: number;
  atimeSec: number;
  atimeNsec: number;
  /** Sorted by name bytes, no duplicates. */
  xattrs: readonly Xattr[];
  /** Bytes of a file; target length of a symlink; 0 otherwise. */
  size: number;
  extents: ExtentList;
  /** Symlink target; empty otherwise. */
  target: ByteString;
  devMajor: number;
  devMinor: number;
  /** Number of names in the merged tree (files), filled in when the tree is sealed; 1 for a directory. */
  links: number;
}

/** A name in the tree. Only directories have children. */
export interface TreeNode {
  readonly inode: Inode;
  /** Undefined for everything but a directory. */
  readonly children: ReadonlyMap<ByteString, TreeNode> | undefined;
}

/** What the merge gives and every writer takes. Whiteouts are gone; names are plain. */
export interface MergedTree {
  readonly root: TreeNode;
  readonly counts: {
    /** Names, the root not counted. */
    readonly entries: number;
    readonly inodes: number;
    readonly directories: number;
    /** Sum of file sizes, each inode once. */
    readonly contentBytes: number;
    /** Blocks of the store that hold content. */
    readonly contentBlocks: number;
  };
}

/** Children of a directory in the one order that every writer uses: by name bytes. */
export function sortedChildren(node: TreeNode): [ByteString, TreeNode][] {
  return [...(node.children ?? [])].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
