import { readFile } from 'node:fs/promises';

/** A small file of /proc or /sys, trimmed; undefined when it is not there or not readable. */
export async function readText(path: string, signal: AbortSignal): Promise<string | undefined> {
  return await readFile(path, { encoding: 'latin1', signal }).then(
    (text) => text.trim(),
    () => undefined,
  );
}
