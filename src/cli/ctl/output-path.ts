import { mkdir, stat } from 'node:fs/promises';
import { BuilderdError, errnoOf } from '../../core/errors.ts';

/** What `-o` names, before anything is asked for: a build that cannot be saved is not worth waiting for. */
export async function isDirectory(path: string): Promise<boolean> {
  if (/(?:^|\/)\.{0,2}$/.test(path)) return true;
  try {
    return (await stat(path)).isDirectory();
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT') return false;
    throw new BuilderdError(
      'usage.invalid',
      `Cannot write ${JSON.stringify(path)}: ${errnoOf(reason)}`,
      {
        cause: reason,
      },
    );
  }
}

/** One format is saved as a file, several as a directory. Throws `usage.invalid`. */
export async function checkOutput(path: string, formats: number): Promise<void> {
  const isThere = await isDirectory(path);
  if (formats === 1 && isThere) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot save to ${JSON.stringify(path)}: want the name of a file, because there is one format`,
    );
  }
  if (formats === 1 || isThere) return;
  const taken = await stat(path).catch((reason: unknown) => {
    if (errnoOf(reason) === 'ENOENT') return undefined;
    throw reason;
  });
  if (taken === undefined) return;
  throw new BuilderdError(
    'usage.invalid',
    `Cannot save to ${JSON.stringify(path)}: want a directory, because there are ${formats} formats`,
  );
}

/** With all that are above it. */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (reason) {
    const message = `Cannot make the directory ${JSON.stringify(path)}: ${errnoOf(reason)}`;
    throw new BuilderdError('usage.invalid', message, { cause: reason });
  }
}
