import { readdirSync, readFileSync } from 'node:fs';
import { errnoOf } from '../../core/errors.ts';

export interface ProcessTreeUsage {
  readonly residentBytes: number;
  /** User and system time of the process, its live descendants and its ended children. */
  readonly cpuSeconds: number;
}

/** Linux on every architecture that Node runs on: sysconf(_SC_CLK_TCK) and the page size of x86-64. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;
/** A conversion is one launcher and one worker; more than this is a runaway that we do not chase. */
const MAX_PROCESSES = 512;

/** Workers do the work, so what the role uses is what its whole tree uses. */
export function readProcessTree(pid: number | 'self' = 'self'): ProcessTreeUsage {
  let residentBytes = 0;
  let ticks = 0;
  const waiting: (number | 'self')[] = [pid];
  for (let seen = 0; waiting.length > 0 && seen < MAX_PROCESSES; seen += 1) {
    const next = waiting.pop() ?? 'self';
    const stat = readGone(`/proc/${next}/stat`);
    if (stat === undefined) continue;
    const usage = parseStat(stat);
    residentBytes += usage.residentPages * PAGE_BYTES;
    ticks += usage.ticks;
    waiting.push(...childrenOf(next));
  }
  return { residentBytes, cpuSeconds: ticks / TICKS_PER_SECOND };
}

/** proc_pid_stat(5): the second field is a name in parentheses that may hold anything. */
export function parseStat(text: string): {
  readonly ticks: number;
  readonly residentPages: number;
} {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const number = (index: number): number => {
    const value = Number(fields[index - 3]);
    return Number.isSafeInteger(value) && value > 0 ? value : 0;
  };
  return { ticks: number(14) + number(15) + number(16) + number(17), residentPages: number(24) };
}

function childrenOf(pid: number | 'self'): number[] {
  const children: number[] = [];
  for (const task of tasksOf(pid)) {
    const text = readGone(`/proc/${pid}/task/${task}/children`) ?? '';
    for (const word of text.split(' ')) if (/^\d+$/.test(word)) children.push(Number(word));
  }
  return children;
}

function tasksOf(pid: number | 'self'): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (reason) {
    if (isGone(reason)) return [];
    throw reason;
  }
}

/** Processes end while they are read. */
function readGone(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (reason) {
    if (isGone(reason)) return undefined;
    throw reason;
  }
}

function isGone(reason: unknown): boolean {
  const errno = errnoOf(reason);
  // EACCES: a process of another user that /proc hides.
  return errno === 'ENOENT' || errno === 'ESRCH' || errno === 'EACCES';
}
