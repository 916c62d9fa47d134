import { type ByteString, bytesOf, escapeBytes } from '../../core/bytes.ts';
import type { ErrorCode } from '../../core/error-catalogue.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { TarEntry } from '../../tar/entry.ts';
import type { FidelityLog } from '../fidelity.ts';
import type { FilterState, TreeFilter } from '../filter/tree-filter.ts';
import type { InodeKind } from '../tree.ts';
import type { MergeBudget } from './budget.ts';
import { applyMetadata, type MetadataPolicy } from './entry-inode.ts';
import {
  type Above,
  type LinkBelow,
  type MergeInode,
  type MergeNode,
  newImpliedDirectory,
  newInode,
  newLinkBelow,
  newNode,
  newWhiteout,
} from './node.ts';
import { aboveChild, isDirectory } from './overlay.ts';
import {
  isAbsolute,
  joinPath,
  MAX_COMPONENT,
  MAX_DEPTH,
  MAX_SYMLINK_HOPS,
  PARENT,
  splitEntryName,
  splitTarget,
} from './path.ts';

const WHITEOUT_PREFIX = bytesOf('.wh.');
const RESERVED_PREFIX = bytesOf('.wh..wh.');
const OPAQUE_MARKER = bytesOf('.wh..wh..opq');
/** Device numbers that every container runtime offers: null zero full random urandom tty console ptmx. */
const STANDARD_DEVICES = new Set(['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2']);

export interface LayerPolicy extends MetadataPolicy {
  readonly devices: 'keep' | 'standard' | 'drop';
}

/** What the reader does with the data of the entry that was just applied. */
export type DataFate =
  | { readonly kind: 'skip' }
  | { readonly kind: 'store'; readonly inode: MergeInode };
const SKIP: DataFate = { kind: 'skip' };

export interface LayerBuilderOptions {
  /** 0 = bottom. */
  readonly layer: number;
  readonly above: Above;
  readonly policy: LayerPolicy;
  readonly fidelity: FidelityLog;
  readonly budget: MergeBudget;
  /** What it drops stays a name until the merge is done; only its data is not kept. */
  readonly filter: TreeFilter | undefined;
  /** Exact paths in this layer that a link of an upper layer waits for: their data is kept. */
  readonly wanted: ReadonlySet<ByteString>;
  /** A hidden file was kept because a link may want it. */
  readonly onKept: (inode: MergeInode) => void;
  /** The last name of a file with stored data is gone. */
  readonly onRelease: (inode: MergeInode) => void;
}

/**
 * Builds one layer's own tree from its entries, in order, as containerd's overlay applier builds
 * an upper directory: parents are resolved through symlinks of this layer only, later entries
 * replace earlier ones, whiteouts and opaque marks are kept as marks (OCI image-spec, layer.md).
 */
export class LayerBuilder {
  readonly root: MergeNode;
  readonly linksBelow: LinkBelow[] = [];
  readonly #o: LayerBuilderOptions;
  #files = 0;

  constructor(options: LayerBuilderOptions) {
    this.#o = options;
    this.root = newImpliedDirectory(options.layer, options.above, options.filter?.root);
  }

  apply(entry: TarEntry): DataFate {
    const parts = splitEntryName(entry.name);
    const ordinal = entry.kind === 'file' ? this.#files++ : -1;
    const base = parts.pop();
    if (base === undefined) return this.#applyRoot(entry);
    if (this.#isBelowWhiteoutName(parts, entry)) return SKIP;
    const parent = this.#directoryFor(parts, entry);
    if (base.startsWith(WHITEOUT_PREFIX)) {
      this.#applyWhiteout(parent, base, parts, entry);
      return SKIP;
    }
    if (entry.kind === 'dir') {
      this.#applyDirectory(parent, base, parts, entry);
      return SKIP;
    }
    const old = parent.children?.get(base);
    if (old !== undefined) {
      if (!old.whiteout) this.#note('duplicate_path', [...parts, base]);
      this.#drop(old);
      parent.children?.delete(base);
    }
    const node = this.#makeNode(parent, base, parts, entry, ordinal);
    parent.children?.set(base, node);
    return node.inode.data === 'stored' && entry.kind === 'file'
      ? { kind: 'store', inode: node.inode }
      : SKIP;
  }

  /** A name like `.wh.a/b` means nothing (B9); AUFS kept files of its own below `.wh..wh.*`. */
  #isBelowWhiteoutName(parts: readonly ByteString[], entry: TarEntry): boolean {
    const odd = parts.find((part) => part.startsWith(WHITEOUT_PREFIX));
    if (odd === undefined) return false;
    if (!odd.startsWith(RESERVED_PREFIX))
      throw this.#refuse('archive.malformed', entry, 'a whiteout cannot hold anything');
    this.#note('reserved_whiteout_dropped', parts);
    return true;
  }

  #applyRoot(entry: TarEntry): DataFate {
    if (entry.kind !== 'dir')
      throw this.#refuse('archive.malformed', entry, 'only a directory can be the root');
    applyMetadata(this.root.inode, entry, this.#o.policy, this.#o.fidelity);
    this.root.implied = false;
    return SKIP;
  }

  #applyDirectory(
    parent: MergeNode,
    base: ByteString,
    parts: readonly ByteString[],
    entry: TarEntry,
  ): void {
    let node = parent.children?.get(base);
    if (node !== undefined && !isDirectory(node)) {
      this.#note(node.whiteout ? 'whiteout_replaced_by_directory' : 'duplicate_path', [
        ...parts,
        base,
      ]);
      this.#drop(node);
      node = undefined;
    } else if (node !== undefined && !node.implied) this.#note('duplicate_path', [...parts, base]);
    if (node === undefined) {
      const above = aboveChild(parent.above, base);
      node = newNode(newInode('dir', this.#o.layer), above, this.#filterBelow(parent, base));
      parent.children?.set(base, node);
    }
    node.implied = false;
    applyMetadata(node.inode, entry, this.#o.policy, this.#o.fidelity);
  }

  #applyWhiteout(
    parent: MergeNode,
    base: ByteString,
    parts: readonly ByteString[],
    entry: TarEntry,
  ): void {
    if (base === OPAQUE_MARKER) {
      if (parent === this.root) this.#note('root_opaque_ignored', [...parts, base]);
      else parent.opaque = true;
      return;
    }
    if (base.startsWith(RESERVED_PREFIX)) {
      this.#note('reserved_whiteout_dropped', [...parts, base]);
      return;
    }
    const name = base.slice(WHITEOUT_PREFIX.length) as ByteString;
    if (name === '' || name === '.' || name === '..') {
      throw this.#refuse('archive.malformed', entry, 'it is a whiteout that names nothing');
    }
    const old = parent.children?.get(name);
    if (old === undefined) parent.children?.set(name, newWhiteout(this.#o.layer));
    else if (!old.whiteout) {
      this.#note('whiteout_with_same_name', [...parts, name]);
      if (isDirectory(old)) old.opaque = true;
    }
  }

  #makeNode(
    parent: MergeNode,
    base: ByteString,
    parts: readonly ByteString[],
    entry: TarEntry,
    ordinal: number,
  ): MergeNode {
    const { layer, policy, fidelity } = this.#o;
    if (entry.kind === 'hardlink') return this.#makeLink(parent, base, parts, entry);
    if (entry.kind === 'dir') throw this.#refuse('internal', entry, 'a directory is not a leaf');
    if (entry.kind === 'char' || entry.kind === 'block') {
      if (entry.kind === 'char' && entry.devMajor === 0 && entry.devMinor === 0) {
        this.#note('whiteout_device', [...parts, base]);
        return newWhiteout(layer);
      }
      if (!this.#keepsDevice(entry)) {
        this.#note('device_dropped', [...parts, base]);
        return newWhiteout(layer);
      }
    }
    const inode = newInode(entry.kind, layer, ordinal);
    applyMetadata(inode, entry, policy, fidelity);
    inode.devMajor = entry.devMajor;
    inode.devMinor = entry.devMinor;
    if (entry.kind === 'symlink') {
      inode.target = entry.linkName;
      inode.size = entry.linkName.length;
    } else if (entry.kind === 'file') {
      inode.size = entry.size;
      const isWanted = this.#o.wanted.size > 0 && this.#o.wanted.has(joinPath([...parts, base]));
      const isVisible =
        aboveChild(parent.above, base) === undefined && !this.#isDropped(parent, base, 'file');
      if (entry.size > 0) inode.data = isVisible || isWanted ? 'stored' : 'skipped';
      if (isWanted && !isVisible && entry.size > 0) this.#o.onKept(inode);
    }
    return newNode(inode);
  }

  #keepsDevice(entry: TarEntry): boolean {
    if (this.#o.policy.devices !== 'standard') return this.#o.policy.devices === 'keep';
    return entry.kind === 'char' && STANDARD_DEVICES.has(`${entry.devMajor}:${entry.devMinor}`);
  }

  #makeLink(
    parent: MergeNode,
    base: ByteString,
    parts: readonly ByteString[],
    entry: TarEntry,
  ): MergeNode {
    const target = splitTarget(entry.linkName);
    const last = target.at(-1);
    if (last === undefined || last === PARENT)
      throw this.#refuse('archive.bad_link', entry, 'it links to a directory');
    if (joinPath(target) === joinPath([...parts, base]))
      throw this.#refuse('archive.bad_link', entry, 'it links to itself');
    const { policy, fidelity } = this.#o;
    const found = this.#findTarget(target, entry);
    const isDropped = this.#isDropped(parent, base, found?.inode.kind ?? 'file');
    if (found === undefined || found.below !== undefined) {
      const link = found?.below ?? {
        layer: this.#o.layer,
        path: joinPath([...parts, base]),
        target,
        overrides: [],
        isWanted: false,
        inode: undefined,
      };
      if (!isDropped) link.isWanted = true;
      link.overrides.push((inode) => applyMetadata(inode, entry, policy, fidelity));
      if (found === undefined) this.linksBelow.push(link);
      this.#note('link_below', [...parts, base]);
      return newLinkBelow(link);
    }
    if (isDirectory(found))
      throw this.#refuse('archive.bad_link', entry, 'it links to a directory');
    if (found.whiteout)
      throw this.#refuse('archive.bad_link', entry, 'its target is deleted by this layer');
    applyMetadata(found.inode, entry, policy, fidelity);
    const isVisible = aboveChild(parent.above, base) === undefined;
    if (found.inode.data === 'skipped' && isVisible) found.inode.data = 'needed';
    return newNode(found.inode);
  }

  /** The link's target in this layer's tree; its last component is not followed. */
  #findTarget(target: readonly ByteString[], entry: TarEntry): MergeNode | undefined {
    const parent = this.#walk(target.slice(0, -1), entry, false)?.at(-1);
    return parent?.children?.get(target.at(-1) ?? ('' as ByteString));
  }

  #directoryFor(parts: readonly ByteString[], entry: TarEntry): MergeNode {
    if (parts.length === 0) return this.root;
    return this.#walk(parts, entry, true)?.at(-1) ?? this.root;
  }

  /**
   * Walks into a directory of this layer, through its own symlinks; the root is its own parent.
   * Makes missing directories when `create`, else answers undefined when the way ends.
   */
  #walk(parts: readonly ByteString[], entry: TarEntry, create: boolean): MergeNode[] | undefined {
    const queue = [...parts].reverse();
    let way: MergeNode[] = [this.root];
    let names: ByteString[] = [];
    let hops = 0;
    for (let part = queue.pop(); part !== undefined; part = queue.pop()) {
      const here = way.at(-1) ?? this.root;
      if (part === PARENT) {
        if (way.length > 1) way.pop();
        names.pop();
        continue;
      }
      let next = here.children?.get(part);
      if (next?.inode.kind === 'symlink' && next.below === undefined) {
        if (++hops > MAX_SYMLINK_HOPS)
          throw this.#refuse('archive.bad_link', entry, 'its name passes more than 40 symlinks');
        if (isAbsolute(next.inode.target)) {
          way = [this.root];
          names = [];
        }
        const target = splitTarget(next.inode.target);
        this.#o.budget.countSymlink(target.length);
        queue.push(...target.reverse());
        continue;
      }
      if (next === undefined || next.whiteout) {
        if (!create) return undefined;
        this.#checkNewDirectory(part, names.length, entry);
        const isReplacing = next !== undefined;
        const above = aboveChild(here.above, part);
        next = newImpliedDirectory(this.#o.layer, above, this.#filterBelow(here, part));
        next.opaque = isReplacing;
        here.children?.set(part, next);
        // What the whiteout deleted has no say in what stands in its place.
        next.implied = !isReplacing;
        this.#note(isReplacing ? 'whiteout_as_parent' : 'implied_directory', [...names, part]);
      }
      if (!isDirectory(next)) {
        if (!create) return undefined;
        throw this.#refuse(
          'archive.malformed',
          entry,
          `"${escapeBytes(part)}" in its name is not a directory`,
        );
      }
      way.push(next);
      names.push(part);
    }
    return way;
  }

  #filterBelow(parent: MergeNode, name: ByteString): FilterState | undefined {
    return parent.filter === undefined ? undefined : this.#o.filter?.enter(parent.filter, name);
  }

  #isDropped(parent: MergeNode, name: ByteString, kind: InodeKind): boolean {
    return parent.filter !== undefined && this.#o.filter?.drops(parent.filter, name, kind) === true;
  }

  /** A symlink may lead to names and depths that no entry could have itself. */
  #checkNewDirectory(name: ByteString, depth: number, entry: TarEntry): void {
    if (name.length > MAX_COMPONENT)
      throw this.#refuse(
        'archive.limit',
        entry,
        `a symlink puts it below a name of ${name.length} bytes`,
      );
    if (depth >= MAX_DEPTH)
      throw this.#refuse(
        'archive.limit',
        entry,
        `symlinks put it more than ${MAX_DEPTH} levels deep`,
      );
    this.#o.budget.countImpliedDirectory();
  }

  /** Forgets a name and, if it was the last, its data. */
  #drop(node: MergeNode): void {
    for (const child of node.children?.values() ?? []) this.#drop(child);
    if (--node.inode.refs > 0 || node.inode.data !== 'stored') return;
    // Released once only, also when it was kept for a link.
    node.inode.data = 'none';
    this.#o.onRelease(node.inode);
  }

  #note(code: Parameters<FidelityLog['note']>[0], parts: readonly ByteString[]): void {
    this.#o.fidelity.note(code, () => joinPath(parts));
  }

  #refuse(code: ErrorCode, entry: TarEntry, fact: string): BuilderdError {
    return new BuilderdError(
      code,
      `Cannot use archive entry "${escapeBytes(entry.name)}" of layer ${this.#o.layer + 1}: ${fact}`,
    );
  }
}
