import { execFile } from 'node:child_process';
import { access, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, messageOf } from '../../src/core/errors.ts';
import { type PrivateContainerd, startPrivateContainerd } from './private-containerd.ts';

/** Debian suites whose containerd is another generation than bookworm's 1.6. */
export const GENERATION_SUITES = ['trixie', 'forky'] as const;
export type GenerationSuite = (typeof GENERATION_SUITES)[number];

export type GenerationTree =
  | { readonly kind: 'ready'; readonly path: string }
  | { readonly kind: 'unavailable'; readonly reason: string };

const run = promisify(execFile);
const BUILD_LIMIT_MS = 10 * 60_000;

/**
 * A directory with that suite's containerd and runc, made once and kept in the cache. Needs root,
 * mmdebstrap and the mirror that this machine's apt uses; says why when it cannot.
 */
export async function prepareGenerationTree(
  suite: GenerationSuite,
  { signal }: { readonly signal: AbortSignal },
): Promise<GenerationTree> {
  if (process.getuid?.() !== 0) return { kind: 'unavailable', reason: 'it needs root' };
  const cache = join(
    process.env['BUILDERD_CACHE'] ?? join(homedir(), '.cache/builderd'),
    'containerd-trees',
  );
  const path = join(cache, suite);
  if (await exists(join(path, 'usr/bin/containerd'))) return { kind: 'ready', path };
  const partial = `${path}.${process.pid}.partial`;
  try {
    await mkdir(cache, { recursive: true });
    await run('mmdebstrap', await mmdebstrapArguments(suite, partial), {
      signal: AbortSignal.any([signal, AbortSignal.timeout(BUILD_LIMIT_MS)]),
    });
    await rename(partial, path);
  } catch (reason) {
    await rm(partial, { recursive: true, force: true });
    // Another process may have finished the same tree first.
    if (!(await exists(join(path, 'usr/bin/containerd')))) {
      return { kind: 'unavailable', reason: `no ${suite} tree: ${messageOf(reason).trim()}` };
    }
  }
  return { kind: 'ready', path };
}

async function mmdebstrapArguments(suite: GenerationSuite, target: string): Promise<string[]> {
  return [
    '--variant=minbase',
    '--include=containerd,runc',
    // A mirror may be a frozen snapshot, whose Release files have expired.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--quiet',
    suite,
    target,
    await debianMirror(),
  ];
}

/** The mirror that this machine's apt takes its own release from. */
async function debianMirror(): Promise<string> {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1];
  const { stdout } = await run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(RELEASE) $(COMPONENT)',
    'Created-By: Packages',
  ]);
  const targets = stdout.split('\n').map((line) => line.split(' '));
  const found = targets.find(([, suite, part]) => suite === release && part === 'main')?.[0];
  if (found === undefined) throw new Error(`Cannot find a mirror of ${release} in apt's sources`);
  return found;
}

/**
 * Runs the tree's containerd with the tree as its root, in its own mount namespace: after a plain
 * chroot the kernel refuses user namespaces. `dir` is bound in under the same path, so that socket,
 * blobs and FIFOs have one name inside and outside; its mounts are seen only inside.
 */
export function startGeneration(
  tree: string,
  { dir, signal }: { readonly dir: string; readonly signal?: AbortSignal },
): Promise<PrivateContainerd> {
  const unshare = ['unshare', '--mount', '--propagation', 'private', '--'];
  return startPrivateContainerd({
    dir,
    wrapper: [...unshare, 'sh', '-c', ENTER_TREE, 'sh', tree, dir],
    ...(signal === undefined ? {} : { signal }),
  });
}

/** The tree is shared by all who run it: everything that changes is a mount of this namespace. */
const ENTER_TREE = `
set -e
tree=$1 dir=$2
shift 2
mount --bind "$tree" "$tree"
cd "$tree"
for name in proc sys dev; do mount --rbind "/$name" "$name"; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p ".$dir" tmp/.old
mount --bind "$dir" ".$dir"
pivot_root . tmp/.old
cd /
umount -l /tmp/.old
exec "$@"
`;

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT') return false;
    throw reason;
  }
}
