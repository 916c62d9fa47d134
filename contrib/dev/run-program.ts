import { type ChildProcess, spawn } from 'node:child_process';

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Only these variables; by default the process's own plus `env`. */
  readonly bareEnv?: boolean;
}

/** Runs one program without a shell and gives its output; throws with its last words if it fails. */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    env: { ...(options.bareEnv === true ? {} : process.env), ...options.env },
  });
  const output: Buffer[] = [];
  const complaints: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk));
  const code = await exitOf(child);
  if (code === 0) return Buffer.concat(output).toString('utf8');
  const tail = Buffer.concat(complaints).toString('utf8').trim().slice(-2000);
  throw new Error(`Cannot run ${program} ${args.join(' ')}: exit ${code}${tail && `\n${tail}`}`);
}

/** The exit code, or the name of the signal that ended it. Rejects if it could not start. */
export function exitOf(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
}

/** Ends a child of ours: TERM, then KILL after `graceMs`. A child that is gone is fine. */
export async function endChild(child: ChildProcess, graceMs = 3000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await gone;
  clearTimeout(timer);
}
