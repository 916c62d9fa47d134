import type { ByteString } from '../../core/bytes.ts';
import type { FidelityLog } from '../fidelity.ts';
import type { MergeNode } from '../merge/node.ts';
import type { TreeFilter } from './tree-filter.ts';

interface Directory {
  readonly node: MergeNode;
  readonly name: ByteString;
  readonly parent: Directory | undefined;
  /** No pattern keeps it for itself. */
  readonly isUnwanted: boolean;
  /** Names in it that are no directories and go. */
  readonly leaving: ByteString[];
  staying: number;
  /** Names in it and below it that go with it, if it goes. */
  below: number;
}

/**
 * Takes out of a merged tree what the filter drops. A directory goes only when nothing below it
 * stays. Whiteouts vanish, too: they would keep their directory. Iterative, because depth is the
 * image's choice.
 */
export function pruneTree(root: MergeNode, filter: TreeFilter, fidelity: FidelityLog): void {
  const directories = sort(root, filter);
  for (const directory of directories.toReversed()) {
    const { parent, leaving } = directory;
    directory.below += leaving.length;
    if (parent === undefined) continue;
    if (goes(directory)) parent.below += 1 + directory.below;
    else parent.staying++;
  }
  for (const directory of directories) {
    const { parent, name, node, leaving, below } = directory;
    if (goes(directory)) {
      // With its parent, if that goes too.
      if (parent === undefined || goes(parent)) continue;
      parent.node.children?.delete(name);
      fidelity.note('excluded', () => pathOf(directory), 1 + below);
      continue;
    }
    for (const each of leaving) {
      node.children?.delete(each);
      fidelity.note('excluded', () => `${pathOf(directory)}/${each}` as ByteString);
    }
  }
}

function goes({ parent, isUnwanted, staying }: Directory): boolean {
  return parent !== undefined && isUnwanted && staying === 0;
}

/** All directories, each before what it holds. */
function sort(root: MergeNode, filter: TreeFilter): Directory[] {
  const all = [newDirectory(root, '' as ByteString, undefined, filter)];
  // Grows while it is walked.
  for (const directory of all) {
    const { node, leaving } = directory;
    for (const [name, child] of node.children ?? []) {
      if (child.whiteout) node.children?.delete(name);
      else if (child.children !== undefined) all.push(newDirectory(child, name, directory, filter));
      else if (node.filter !== undefined && filter.drops(node.filter, name, kindOf(child)))
        leaving.push(name);
      else directory.staying++;
    }
  }
  return all;
}

function newDirectory(
  node: MergeNode,
  name: ByteString,
  parent: Directory | undefined,
  filter: TreeFilter,
): Directory {
  const isUnwanted = node.filter !== undefined && filter.dropsDirectory(node.filter);
  return { node, name, parent, isUnwanted, leaving: [], staying: 0, below: 0 };
}

function kindOf({ below, inode }: MergeNode): MergeNode['inode']['kind'] {
  return (below?.inode ?? inode).kind;
}

function pathOf(directory: Directory): ByteString {
  const names: ByteString[] = [];
  for (let at = directory; at.parent !== undefined; at = at.parent) names.push(at.name);
  return names.length === 0 ? ('' as ByteString) : (`/${names.reverse().join('/')}` as ByteString);
}
