import { lstat, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { SPOOLED_NAME } from '../../runtime/content-files.ts';
import { SCRATCH_NAME } from '../../store/staged-file.ts';

/** A scratch file loses its name at once when it is made: one that has it for so long lost its maker. */
const STALE_MS = 30_000;

/** Removes scratch files whose makers died; gives their number. Nothing else in there is touched. */
export async function sweepScratch(
  directory: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<number> {
  let removed = 0;
  for (const name of await readdir(directory)) {
    throwIfAborted(signal, 'sweep the scratch directory');
    if (!SCRATCH_NAME.test(name) && !SPOOLED_NAME.test(name)) continue;
    const file = path.join(directory, name);
    if (!(await isStale(file))) continue;
    await rm(file, { force: true });
    removed += 1;
  }
  return removed;
}

async function isStale(file: string): Promise<boolean> {
  try {
    const { mtimeMs } = await lstat(file);
    return mtimeMs < Date.now() - STALE_MS;
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT') return false;
    throw reason;
  }
}
