import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Small files with different content and length, so that neither blocks nor names repeat. */
export async function fillCrowdedTree(
  tree: string,
  files: number,
  directories: number,
): Promise<void> {
  for (let directory = 0; directory < directories; directory += 1) {
    const path = join(tree, `directory-${directory}`);
    await mkdir(path, { recursive: true });
    for (let file = directory; file < files; file += directories) {
      await writeFile(
        join(path, `file-${file}`),
        `content of file ${file}\n`.repeat((file % 7) + 1),
      );
    }
  }
}
