import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';

const OTHERS_READ = 0o004;
const OTHERS_ENTER = 0o005;

/** The first file or directory, below a path or the path itself, that not everyone may read. */
export function findUnreadable(top: string): string | undefined {
  const stat = statSync(top);
  const needed = stat.isDirectory() ? OTHERS_ENTER : OTHERS_READ;
  if ((stat.mode & needed) !== needed) return top;
  if (!stat.isDirectory()) return undefined;
  for (const entry of readdirSync(top, { withFileTypes: true })) {
    // A link inside leads to another file inside, or to one that is not there.
    if (!entry.isDirectory() && !entry.isFile()) continue;
    const found = findUnreadable(path.join(top, entry.name));
    if (found !== undefined) return found;
  }
  return undefined;
}
