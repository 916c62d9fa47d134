import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { errnoOf } from '../../src/core/errors.ts';
import { exitOf } from '../../contrib/dev/run-program.ts';
import { cpuMsOf, rssBytesOf, sessionRssBytes } from './procfs.ts';

export interface Command {
  readonly argv: readonly [string, ...string[]];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** What one run of one or more commands, one after the other, cost. */
export interface Sample {
  readonly wallMs: number;
  /** User and system time of the commands, of their children, and of the daemons that worked. */
  readonly cpuMs: number;
  /** Largest sum over the processes that ran at once, and what the daemons grew by meanwhile. */
  readonly peakRssBytes: number;
}

export interface MeasureOptions {
  /** Scratch file for the figures of GNU time. */
  readonly timeFile: string;
  /** Processes that work for the commands without being their children. */
  readonly daemons: readonly number[];
  readonly signal: AbortSignal;
}

const SAMPLE_MS = 100;

/**
 * Runs the commands under GNU time, which knows what a parent cannot ask Node for: CPU time and
 * the high-water mark of ended children. The mark is of the largest single process; where several
 * run at once, or a daemon helps, the sum seen every SAMPLE_MS is larger and counts.
 */
export async function measure(
  commands: readonly Command[],
  options: MeasureOptions,
): Promise<Sample> {
  const total = { wallMs: 0, cpuMs: 0, peakRssBytes: 0 };
  for (const command of commands) {
    const sample = await measureOne(command, options);
    total.wallMs += sample.wallMs;
    total.cpuMs += sample.cpuMs;
    total.peakRssBytes = Math.max(total.peakRssBytes, sample.peakRssBytes);
  }
  return total;
}

async function measureOne(command: Command, options: MeasureOptions): Promise<Sample> {
  const { timeFile, daemons, signal } = options;
  signal.throwIfAborted();
  await rm(timeFile, { force: true });
  const daemonCpu = sum(daemons, cpuMsOf);
  const daemonRss = sum(daemons, rssBytesOf);
  const started = performance.now();
  const child = spawn('/usr/bin/time', ['-f', '%U %S %M', '-o', timeFile, ...command.argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...command.env },
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
  });
  const session = child.pid;
  let sampledRss = 0;
  const sampler = setInterval(() => {
    if (session === undefined) return;
    const growth = Math.max(0, sum(daemons, rssBytesOf) - daemonRss);
    sampledRss = Math.max(sampledRss, sessionRssBytes(session) + growth);
  }, SAMPLE_MS);
  const stop = (): void => endGroup(session);
  signal.addEventListener('abort', stop, { once: true });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString('utf8')).slice(-2000);
  });
  let code: number | string;
  try {
    code = await exitOf(child);
  } finally {
    clearInterval(sampler);
    signal.removeEventListener('abort', stop);
  }
  const wallMs = performance.now() - started;
  signal.throwIfAborted();
  if (code !== 0) {
    throw new Error(`Cannot run ${command.argv.join(' ')}: exit ${code}\n${complaint.trim()}`);
  }
  const [user, system, maxKib] = (await readFile(timeFile, 'utf8')).trim().split(' ').map(Number);
  if (user === undefined || system === undefined || maxKib === undefined) {
    throw new Error(`Cannot measure ${command.argv[0]}: GNU time wrote no figures`);
  }
  return {
    wallMs,
    cpuMs: (user + system) * 1000 + sum(daemons, cpuMsOf) - daemonCpu,
    peakRssBytes: Math.max(sampledRss, maxKib * 1024),
  };
}

/** The session that the command leads is its own process group, so this reaches its children. */
function endGroup(leader: number | undefined): void {
  if (leader === undefined) return;
  try {
    process.kill(-leader, 'SIGTERM');
  } catch (reason) {
    if (errnoOf(reason) !== 'ESRCH') throw reason;
  }
}

function sum(pids: readonly number[], read: (pid: number) => number): number {
  return pids.reduce((total, pid) => total + read(pid), 0);
}
