import type { ByteString } from '../../core/bytes.ts';
import { escapeBytes } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { FidelityLog } from '../fidelity.ts';
import { pruneTree } from '../filter/prune.ts';
import type { TreeFilter } from '../filter/tree-filter.ts';
import { MergeBudget } from './budget.ts';
import { ImpliedDirectories } from './implied-directories.ts';
import { LayerBuilder, type LayerPolicy } from './layer-builder.ts';
import { StackedLayers } from './lookup.ts';
import type { LinkBelow, MergeInode, MergeNode } from './node.ts';
import { cloneNames, isDirectory, mergeBelow } from './overlay.ts';
import { joinPath } from './path.ts';
import { sealTree, type SealedTree } from './seal.ts';

export interface LayerMergerOptions {
  readonly policy: LayerPolicy;
  readonly fidelity: FidelityLog;
  readonly filter?: TreeFilter | undefined;
  /** Stored data that no name leads to any more. */
  readonly onRelease: (inode: MergeInode) => void;
}

/**
 * Merges layers from the top down: what an upper layer hid is known when a lower one is read, so
 * only visible data is kept. Use: beginLayer(top), fill the builder, finishLayer; …; finish().
 */
export class LayerMerger {
  readonly #o: LayerMergerOptions;
  #root: MergeNode | undefined;
  readonly #budget = new MergeBudget();
  readonly #implied = new ImpliedDirectories(this.#budget);
  readonly #links: LinkBelow[] = [];
  /** Paths that the links name. */
  readonly #wanted = new Set<ByteString>();
  /** Layers below a pending link, as they were before they were merged; index = layer. */
  readonly #retained = new Map<number, MergeNode>();
  /** Inodes kept only because a link may want them. */
  readonly #kept: MergeInode[] = [];

  constructor(options: LayerMergerOptions) {
    this.#o = options;
  }

  /** `layer` counts from the bottom; call with descending numbers. */
  beginLayer(layer: number): LayerBuilder {
    return new LayerBuilder({
      ...this.#o,
      layer,
      above: this.#root,
      budget: this.#budget,
      filter: this.#o.filter,
      wanted: this.#wanted,
      onKept: (inode) => this.#kept.push(inode),
    });
  }

  finishLayer(builder: LayerBuilder, layer: number): void {
    this.#implied.settle(builder.root);
    this.#implied.add(builder.root);
    const isBelowLink = this.#links.length > 0;
    if (isBelowLink) this.#retained.set(layer, builder.root);
    const lower = isBelowLink ? cloneNames(builder.root) : builder.root;
    if (this.#root === undefined) this.#root = lower;
    else {
      this.#mergeRoot(this.#root, lower);
      mergeBelow(this.#root, lower, (names) => {
        this.#o.fidelity.note('symlinked_parent_replaced', joinPath(names));
      });
    }
    for (const link of builder.linksBelow) {
      this.#links.push(link);
      if (link.isWanted) this.#wanted.add(joinPath(link.target));
    }
  }

  /** Resolves links, drops whiteouts and what the filter does not keep, counts. `needed`: inodes whose data a second read must bring. */
  finish(): SealedTree {
    if (this.#root === undefined) {
      throw new BuilderdError(
        'image.bad_config',
        'Cannot build a root file system: the image has no layers',
      );
    }
    this.#resolveLinks();
    const { filter, fidelity } = this.#o;
    if (filter !== undefined) pruneTree(this.#root, filter, fidelity);
    const sealed = sealTree(this.#root);
    for (const inode of this.#kept) {
      if (inode.links === 0 && inode.data === 'stored') this.#o.onRelease(inode);
    }
    return sealed;
  }

  /** The root has no entry in an upper layer: the next lower layer that has one speaks for it. */
  #mergeRoot(root: MergeNode, lower: MergeNode): void {
    if (!root.implied || lower.implied) return;
    root.inode = lower.inode;
    root.implied = false;
  }

  /** From the bottom up, because a link may lead to a link of a lower layer. */
  #resolveLinks(): void {
    const links = this.#links.sort((a, b) => a.layer - b.layer);
    const retained = [...this.#retained].sort(([a], [b]) => b - a);
    let layer = -1;
    let below = new StackedLayers([], this.#budget);
    for (const link of links) {
      if (link.layer !== layer) {
        layer = link.layer;
        const roots = retained.filter(([index]) => index < layer).map(([, root]) => root);
        below = new StackedLayers(roots, this.#budget);
      }
      this.#resolve(link, below);
    }
  }

  #resolve(link: LinkBelow, below: StackedLayers): void {
    const found = below.lookUp(link.target);
    const inode = found?.below === undefined ? found?.inode : found.below.inode;
    if (found === undefined || inode === undefined || found.whiteout || isDirectory(found)) {
      throw badLink(link, found !== undefined && isDirectory(found));
    }
    if (inode.data === 'skipped') inode.data = 'needed';
    for (const override of link.overrides) override(inode);
    link.inode = inode;
  }
}

function badLink(link: LinkBelow, isToDirectory: boolean): BuilderdError {
  const target: ByteString = joinPath(link.target);
  return new BuilderdError(
    'archive.bad_link',
    `Cannot link "${escapeBytes(link.path)}" of layer ${link.layer + 1} to "${escapeBytes(target)}": ${
      isToDirectory ? 'it is a directory' : 'no earlier entry and no lower layer has it'
    }`,
  );
}
