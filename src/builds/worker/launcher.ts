import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable, type Writable } from 'node:stream';
import { BuilderdError } from '../../core/errors.ts';
import type { WorkerIds } from './id-ranges.ts';
import { type LaunchEnd, type LaunchStart, parseLaunchReport } from './launch-report.ts';
import type { WorkerRoot } from './worker-root.ts';

export interface LaunchOptions {
  /** native/helper, compiled. */
  readonly launcher: string;
  readonly root: WorkerRoot;
  readonly ids: WorkerIds;
  readonly limits: WorkerLimits;
  /** Behind the program's own path. */
  readonly args: readonly string[];
  readonly input: Buffer;
  /** Become FIRST_HANDED_FD and the following ones. They stay the caller's. */
  readonly handed: readonly number[];
  /** An opened cgroup v2 directory. */
  readonly cgroupFd?: number;
}

export interface WorkerLimits {
  readonly tmpBytes: number;
  readonly fileBytes: number;
  readonly processes: number;
}

export interface LaunchedWorker {
  readonly answers: Readable;
  /**
   * Settles, never rejects, once nothing of the worker runs any more; with `lost` the launcher is
   * gone, and what it started may still be ending.
   */
  readonly ended: Promise<{ readonly start: LaunchStart | undefined; readonly end: LaunchEnd }>;
  /** The last that it wrote to stderr. Foreign text. */
  errorText(): string;
  /** Kills it, and everything that it may have started. */
  stop(): void;
}

const REPORT_FD = 3;
/** stdin, stdout, stderr, the launcher's report, the answers. */
export const FIRST_HANDED_FD = 5;
/** Node's own: epoll, eventfds, the addon, libraries. */
const OWN_DESCRIPTORS = 64;
const KILL_AFTER_MS = 500;
const LAST_WORDS_MS = 500;
const MAX_ERROR_BYTES = 64 * 1024;
const KEPT_ERROR_BYTES = 4096;
const MAX_REPORT_BYTES = 4096;

/** Starts one process in namespaces of its own. Throws only when the launcher cannot be started. */
export async function launchWorker(options: LaunchOptions): Promise<LaunchedWorker> {
  const { handed, cgroupFd } = options;
  const passed = cgroupFd === undefined ? handed : [...handed, cgroupFd];
  const child = spawn(options.launcher, launcherArgs(options), {
    stdio: ['pipe', 'ignore', 'pipe', 'pipe', 'pipe', ...passed],
    env: {},
    cwd: '/',
  });
  try {
    await once(child, 'spawn');
  } catch (reason) {
    throw new BuilderdError(
      'isolation.unavailable',
      `Cannot isolate a worker: its launcher ${options.launcher} does not start (run: npm run build:native)`,
      { cause: reason },
    );
  }
  // Of a signal that could not be sent. It must not end the executor; the kernel ends the worker.
  child.on('error', () => undefined);
  const { stdin, stderr } = child;
  const [, , , report, answers] = child.stdio;
  if (stdin === null || stderr === null) throw missingPipe();
  sendInput(stdin, options.input);
  const kept = keepErrors(stderr, () => stop(child));
  const channels = { answers: readable(answers), report: readable(report) };
  // Whoever is left of a launcher that was killed keeps them open, and is not waited for.
  child.once('exit', (code) => {
    if (code === 0) return;
    setTimeout(() => Object.values(channels).forEach((each) => each.destroy()), LAST_WORDS_MS);
  });
  return {
    answers: channels.answers,
    ended: endOf(child, channels.report),
    errorText: () => Buffer.concat(kept).toString('latin1').slice(-KEPT_ERROR_BYTES),
    stop: () => stop(child),
  };
}

function launcherArgs({ root, ids, limits, args, handed, cgroupFd }: LaunchOptions): string[] {
  const end = FIRST_HANDED_FD + handed.length;
  const numbers: [string, number][] = [
    ['--report', REPORT_FD],
    ['--parent', process.pid],
    ['--keep', cgroupFd === undefined ? end : end + 1],
    ['--worker-id', ids.worker],
    ['--init-id', ids.init],
    ['--tmp', limits.tmpBytes],
    ['--fsize', limits.fileBytes],
    ['--nofile', end + OWN_DESCRIPTORS],
    ['--nproc', limits.processes],
    // Rather a build than the service.
    ['--oom-score-adj', 500],
  ];
  if (cgroupFd !== undefined) numbers.push(['--cgroup', end]);
  return [
    ...numbers.flatMap(([name, value]) => [name, String(value)]),
    ...root.mounts.flatMap(({ kind, source, target }) => [`--${kind}`, source, target]),
    ...[...root.environment].flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    ...['--', root.program, 'builderd', ...args],
  ];
}

function sendInput(input: Writable, bytes: Buffer): void {
  // A worker that dies before it has read its job shows in other ways.
  input.on('error', () => undefined);
  input.end(bytes);
}

function keepErrors(errors: Readable, onFlood: () => void): Buffer[] {
  const kept: Buffer[] = [];
  let total = 0;
  errors.on('error', () => undefined);
  errors.on('data', (chunk: Buffer) => {
    total += chunk.length;
    kept.push(chunk);
    while (kept.length > 1 && kept.reduce((sum, each) => sum + each.length, 0) > KEPT_ERROR_BYTES) {
      kept.shift();
    }
    if (total > MAX_ERROR_BYTES) onFlood();
  });
  return kept;
}

async function endOf(
  child: ChildProcess,
  report: Readable,
): Promise<Awaited<LaunchedWorker['ended']>> {
  const exited = new Promise<string>((settle) => {
    child.once('exit', (code, signal) => settle(signal ?? `status ${code}`));
  });
  let text = '';
  try {
    for await (const chunk of report) {
      text += String(chunk);
      if (text.length > MAX_REPORT_BYTES) break;
    }
  } catch (reason) {
    text += `\n${String(reason)}`;
  }
  const status = await exited;
  const { start, end } = parseLaunchReport(text);
  return { start, end: end ?? { kind: 'lost', fact: `it ended with ${status}` } };
}

/** SIGTERM has the launcher kill and report; SIGKILL has the kernel kill. */
function stop(child: ChildProcess): void {
  if (!isRunning(child)) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => {
    if (isRunning(child)) child.kill('SIGKILL');
  }, KILL_AFTER_MS);
  child.once('exit', () => clearTimeout(timer));
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

function readable(stream: unknown): Readable {
  if (stream instanceof Readable) return stream;
  throw missingPipe();
}

function missingPipe(): BuilderdError {
  return new BuilderdError('internal', 'Cannot talk to the worker: a pipe is missing');
}
