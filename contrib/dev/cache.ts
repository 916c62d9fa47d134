import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { errnoOf } from '../../src/core/errors.ts';

const STALE_MS = 24 * 3600 * 1000;

export function cacheRoot(): string {
  return process.env['BUILDERD_CACHE'] ?? join(homedir(), '.cache', 'builderd');
}

/** A short name for everything that decides what an entry holds. */
export function cacheKey(...inputs: readonly string[]): string {
  const hash = createHash('sha256');
  for (const each of inputs) hash.update(`${each.length}:${each}`);
  return hash.digest('hex').slice(0, 16);
}

/**
 * The directory of a cache entry, made by `make` at the first use. It is made under another name
 * and renamed when complete, so a half-made entry is never seen and two makers do not meet.
 */
export async function cached(
  name: string,
  make: (staging: string) => Promise<void>,
): Promise<string> {
  const root = cacheRoot();
  const final = join(root, name);
  if (await exists(final)) return final;
  await mkdir(root, { recursive: true });
  await sweepStale(root);
  // Root's own ~/.cache is closed to apt's sandbox user; the staging directory itself is open.
  const staging = join(root, `.staging-${process.pid}-${randomBytes(6).toString('hex')}`);
  await mkdir(staging, { mode: 0o755 });
  try {
    await make(staging);
    await rename(staging, final);
  } catch (reason) {
    await rm(staging, { recursive: true, force: true });
    // Another process finished the same entry first: theirs is as good.
    if (!['EEXIST', 'ENOTEMPTY'].includes(errnoOf(reason) ?? '')) throw reason;
  }
  return final;
}

/** What a killed maker left. Nothing takes a day to make. */
async function sweepStale(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    if (!name.startsWith('.staging-')) continue;
    const path = join(root, name);
    const found = await stat(path).catch(ignoreMissing);
    if (found !== undefined && found.mtimeMs < Date.now() - STALE_MS) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(ignoreMissing)) !== undefined;
}

function ignoreMissing(reason: unknown): undefined {
  if (errnoOf(reason) !== 'ENOENT') throw reason;
}
