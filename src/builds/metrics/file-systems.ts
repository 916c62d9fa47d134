import { stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../../core/errors.ts';

export interface FileSystemSpace {
  /** The directory that operators know; the file system may be mounted further up. */
  readonly mountpoint: string;
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/**
 * One entry for the directory that holds all of ours (the guide's alert names it), and one for each
 * that lies on a file system of its own. Directories that are not there yet are left out.
 */
export async function readFileSystems(directories: readonly string[]): Promise<FileSystemSpace[]> {
  const shown: FileSystemSpace[] = [];
  const devices = new Set<bigint>();
  for (const directory of [commonParent(directories), ...directories]) {
    if (directory === undefined) continue;
    try {
      const { dev } = await stat(directory, { bigint: true });
      if (devices.has(dev)) continue;
      const { bavail, blocks, bsize } = await statfs(directory);
      devices.add(dev);
      // What an unprivileged writer can still use: the reserve of root is not free for us.
      shown.push({ mountpoint: directory, freeBytes: bavail * bsize, totalBytes: blocks * bsize });
    } catch (reason) {
      if (errnoOf(reason) !== 'ENOENT' && errnoOf(reason) !== 'EACCES') throw reason;
    }
  }
  return shown;
}

/** The deepest directory above all of them, unless that is the root. */
export function commonParent(directories: readonly string[]): string | undefined {
  const [first, ...rest] = directories.map((each) => path.resolve(each).split('/').slice(1));
  if (first === undefined) return undefined;
  let depth = 0;
  while (depth < first.length - 1 && rest.every((each) => each[depth] === first[depth])) depth += 1;
  return depth === 0 ? undefined : `/${first.slice(0, depth).join('/')}`;
}
