import type { OpenFile } from '../../core/open-file.ts';
import type { Addon } from '../../../native/addon.ts';
import type { ByteString } from '../../core/bytes.ts';
import type { Digest } from '../../core/digest.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { EntryKind, TarEntry } from '../../tar/entry.ts';
import { encodeHeader, endOfArchive, padding } from '../../tar/writer.ts';
import type { BlockFile } from '../store/block-file.ts';
import type { Inode, MergedTree, TreeNode } from '../tree.ts';
import { walkTree } from '../walk.ts';
import { OutputFile } from './output-file.ts';
import { SlabOutput } from './slab-output.ts';

export interface WriteTarOptions {
  readonly addon: Addon | undefined;
  /** The target once more, opened with O_DIRECT. */
  readonly direct?: OpenFile | undefined;
  readonly signal: AbortSignal;
}

/** How many entries go by between two looks at the abort signal. */
const ABORT_CHECK = 1024;

/**
 * Writes the tree as a tar: sorted, PAX where ustar is too small, every xattr, hard links to the
 * first name in order. Equal trees give equal bytes. The digest is made on the way; not fsynced.
 */
export async function writeTar(
  tree: MergedTree,
  source: BlockFile,
  target: OpenFile,
  { addon, signal, direct }: WriteTarOptions,
): Promise<{ sizeBytes: number; digest: Digest }> {
  await using file = await OutputFile.open(addon, target, direct);
  const output = new SlabOutput(addon, source, file);
  const firstNames = new Map<Inode, ByteString>();
  let count = 0;
  try {
    for (const { path, node } of walkTree(tree.root)) {
      if (count++ % ABORT_CHECK === 0) throwIfAborted(signal, 'write the tar');
      const linkTo = firstNames.get(node.inode);
      if (linkTo === undefined && node.inode.links > 1) firstNames.set(node.inode, path);
      const header = output.put(encodeHeader(entryFor(path, node, linkTo)));
      if (header !== undefined) await header;
      if (node.inode.kind !== 'file' || linkTo !== undefined) continue;
      const content = output.content(node.inode);
      if (content !== undefined) await content;
      const rest = output.put(padding(node.inode.size));
      if (rest !== undefined) await rest;
    }
    await output.put(endOfArchive());
    return await output.finish();
  } finally {
    await output.settle();
  }
}

function entryFor(path: ByteString, { inode }: TreeNode, linkTo: ByteString | undefined): TarEntry {
  const kind: EntryKind = linkTo === undefined ? inode.kind : 'hardlink';
  const name = inode.kind === 'dir' ? (path === '' ? './' : `${path}/`) : path;
  return {
    kind,
    name: name as ByteString,
    linkName: linkTo ?? inode.target,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    size: kind === 'file' ? inode.size : 0,
    mtime: { sec: inode.mtimeSec, nsec: inode.mtimeNsec },
    xattrs: inode.xattrs,
    devMajor: inode.devMajor,
    devMinor: inode.devMinor,
  };
}
