import { execFile } from 'node:child_process';
import { chmod, lstat, mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { asBuilderdError, BuilderdError } from '../../core/errors.ts';
import { WARM_ARGUMENT } from './warm-argument.ts';
import { NODE_FLAGS, workerEntry } from './worker-root.ts';

const LIMIT_MS = 20_000;

export interface WarmCacheOptions {
  readonly nodePath: string;
  readonly codeRoot: string;
  /** Emptied and filled: nothing else may lie in it. Only we may be able to write beside it. */
  readonly cacheDir: string;
}

/**
 * Keeps the compiled code of a worker, so that each start is some 100 ms shorter. The process that
 * writes it sees no foreign data; workers only read it. Gives the directory to hand to
 * `describeWorkerRoot`. Throws `host.permission` where somebody else could plant code for us.
 */
export async function warmWorkerCache(
  { nodePath, codeRoot, cacheDir }: WarmCacheOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<string> {
  await refuseSharedParent(path.dirname(cacheDir));
  await rm(cacheDir, { recursive: true, force: true });
  await mkdir(cacheDir, { mode: 0o755 });
  try {
    await promisify(execFile)(nodePath, [...NODE_FLAGS, workerEntry(codeRoot), WARM_ARGUMENT], {
      env: { NODE_COMPILE_CACHE: cacheDir },
      cwd: '/',
      signal,
      timeout: LIMIT_MS,
    });
  } catch (reason) {
    throw asBuilderdError(reason, 'compile the code of the workers');
  }
  // Whatever our umask is: workers run with ids that own nothing.
  await chmod(cacheDir, 0o755);
  for (const entry of await readdir(cacheDir, { recursive: true, withFileTypes: true })) {
    await chmod(path.join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
  return cacheDir;
}

async function refuseSharedParent(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const stat = await lstat(directory);
  const ours = stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0;
  if (ours) return;
  throw new BuilderdError(
    'host.permission',
    `Cannot keep the code of the workers in "${directory}": it must be a directory of ours that nobody else may write to`,
  );
}
