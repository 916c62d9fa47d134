import { bytesOf, escapeBytes, type ByteString } from '../../core/bytes.ts';
import type { Digest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { ImageConfig } from '../image-config/image-config.ts';
import type { ResolvedUser } from '../image-config/resolve-user.ts';
import { MAX_COMPONENT, MAX_DEPTH } from '../merge/path.ts';
import { lookup } from '../tree-lookup.ts';
import type { MergedTree } from '../tree.ts';
import { containerCmd, containerEnv } from './guest-documents.ts';

/** One name to put into the tree, owned by 0:0. Apply in order: a later one may need an earlier. */
export interface TreeAddition {
  /** Absolute path of the directory, free of symlinks; in the tree, or added before this one. */
  readonly parent: ByteString;
  readonly name: ByteString;
  readonly kind: 'file' | 'dir';
  readonly mode: number;
  /** Empty for a directory. */
  readonly content: Buffer;
  /** True: the image has a non-directory under this name; it is replaced, never followed. */
  readonly replaces: boolean;
}

export interface GuestPlan {
  readonly additions: readonly TreeAddition[];
  /** One sentence for each addition and oddity, for the fidelity report. */
  readonly notices: readonly string[];
}

export interface GuestInput {
  readonly tree: MergedTree;
  readonly config: ImageConfig;
  readonly user: ResolvedUser;
  /** Digest that the reference resolved to. */
  readonly imageDigest: Digest;
  /** The program that `--guest-init` named; becomes /usr/bin/metald-init. */
  readonly init?: Buffer;
}

/** What a kernel or an init mounts onto; a read-only root needs them to exist. */
const MOUNT_POINTS: readonly (readonly [string, number])[] = [
  ['/proc', 0o555],
  ['/sys', 0o555],
  ['/dev', 0o755],
  ['/run', 0o755],
  ['/tmp', 0o1777],
];
/** The first guest init reads no more of a document than this. */
const MAX_DOCUMENT_BYTES = 1024 * 1024;
const NO_CONTENT = Buffer.alloc(0);

/**
 * Plans what `--guest-files` adds: /container.cmd, /container.env, the init when one is named, and
 * missing mount points. Directories are resolved inside the tree; the final name is always the
 * image's own name at that place, so a symlink there is replaced and not followed.
 * Throws `artifact.unrepresentable` when a directory of the image stands where a file must be.
 */
export function planGuestFiles(input: GuestInput): GuestPlan {
  const plan = new PlanBuilder(input.tree);
  plan.addFile('/', 'container.cmd', 0o644, containerCmd(input.config));
  plan.addFile('/', 'container.env', 0o644, containerEnv(input));
  if (input.init !== undefined) {
    plan.addFile(plan.ensureDirectory('/usr/bin'), 'metald-init', 0o755, input.init);
  }
  for (const [path, mode] of MOUNT_POINTS) plan.addMountPoint(path, mode);
  for (const { name, content } of plan.additions) {
    if (name.startsWith('container.') && content.length > MAX_DOCUMENT_BYTES) {
      plan.notices.push(`/${name} is larger than the ${MAX_DOCUMENT_BYTES} bytes that guests read`);
    }
  }
  return { additions: plan.additions, notices: plan.notices };
}

class PlanBuilder {
  readonly additions: TreeAddition[] = [];
  readonly notices: string[] = [];
  readonly #tree: MergedTree;

  constructor(tree: MergedTree) {
    this.#tree = tree;
  }

  addFile(parent: string, name: string, mode: number, content: Buffer): void {
    const path = parent === '/' ? `/${name}` : `${parent}/${name}`;
    const found = lookup(this.#tree, path as ByteString, { followLast: false });
    if (found.kind === 'found' && found.node.inode.kind === 'dir') {
      throw refused(path, 'the image has a directory there');
    }
    const replaces = found.kind === 'found';
    this.additions.push({
      parent: parent as ByteString,
      name: bytesOf(name),
      kind: 'file',
      mode,
      content,
      replaces,
    });
    this.notices.push(`${replaces ? 'Replaced' : 'Added'} ${escapeBytes(path as ByteString)}`);
  }

  /** The directory that `path` means inside the tree; what is missing of it is added. */
  ensureDirectory(path: string): ByteString {
    const found = lookup(this.#tree, path as ByteString);
    if (found.kind === 'found' && found.node.children !== undefined) return found.path;
    if (found.kind !== 'missing' || found.rest.includes('..' as ByteString)) {
      throw refused(path, 'the image has something else than a directory there');
    }
    // A symlink's target may hold what no entry of a layer may.
    const isTooLong = found.rest.some((name) => name.length > MAX_COMPONENT);
    if (isTooLong || found.rest.length > MAX_DEPTH) {
      throw refused(path, 'a symlink on the way leads to a name that is too long or too deep');
    }
    // A dangling symlink on the way: what it points at is created, inside the tree.
    let { parent } = found;
    for (const name of found.rest.filter((part) => part !== '.')) {
      if (this.#adds(parent, name)) throw refused(path, 'a symlink leads it to an added file');
      this.additions.push({
        parent,
        name,
        kind: 'dir',
        mode: 0o755,
        content: NO_CONTENT,
        replaces: false,
      });
      parent = (parent === '/' ? `/${name}` : `${parent}/${name}`) as ByteString;
      this.notices.push(`Added directory ${escapeBytes(parent)}`);
    }
    return parent;
  }

  #adds(parent: ByteString, name: ByteString): boolean {
    return this.additions.some((one) => one.parent === parent && one.name === name);
  }

  /** Whatever the image has under the name stays; only an absent name is added. */
  addMountPoint(path: string, mode: number): void {
    const own = lookup(this.#tree, path as ByteString, { followLast: false });
    if (own.kind === 'missing') {
      // A symlink may have led the init there: that directory is the mount point, then.
      if (this.#adds('/' as ByteString, bytesOf(path.slice(1)))) return;
      this.additions.push({
        parent: '/' as ByteString,
        name: bytesOf(path.slice(1)),
        kind: 'dir',
        mode,
        content: NO_CONTENT,
        replaces: false,
      });
      this.notices.push(`Added directory ${path}`);
      return;
    }
    const target = lookup(this.#tree, path as ByteString);
    if (target.kind !== 'found' || target.node.children === undefined) {
      this.notices.push(`Left ${path} as the image has it, though it is no directory`);
    }
  }
}

function refused(path: string, fact: string): BuilderdError {
  return new BuilderdError(
    'artifact.unrepresentable',
    `Cannot add ${escapeBytes(path as ByteString)} to the root file system: ${fact}`,
  );
}
