import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';

const TOOL_LIMIT_MS = 5000;
const MAX_OUTPUT_BYTES = 256 * 1024;

export interface ToolCall {
  /** Directories to look in, as in $PATH. */
  readonly searchPath: string;
  readonly signal: AbortSignal;
}

/** Where the program is, or undefined. Relative entries of $PATH are skipped. */
export async function findTool(
  name: string,
  { searchPath }: ToolCall,
): Promise<string | undefined> {
  for (const directory of searchPath.split(delimiter)) {
    if (!isAbsolute(directory)) continue;
    const file = join(directory, name);
    const usable = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return file;
  }
  return undefined;
}

/** Both outputs of a short program, or undefined when it fails or takes longer than 5 s. */
export function runTool(
  file: string,
  args: readonly string[],
  { searchPath, signal }: ToolCall,
): Promise<string | undefined> {
  const options = {
    timeout: TOOL_LIMIT_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
    env: { PATH: searchPath, LC_ALL: 'C' },
    signal,
  };
  return new Promise((done) => {
    execFile(file, [...args], options, (fault, stdout, stderr) => {
      done(fault === null ? `${stdout}${stderr}` : undefined);
    });
  });
}
