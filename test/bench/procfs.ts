import { readdirSync, readFileSync } from 'node:fs';
import { errnoOf } from '../../src/core/errors.ts';

/** getconf CLK_TCK and PAGE_SIZE of Linux on x86-64. */
const TICK_MS = 10;
const PAGE_BYTES = 4096;

/** User and system time of a process and of its children that have ended; 0 once it is gone. */
export function cpuMsOf(pid: number): number {
  const fields = statFields(pid);
  // proc(5): utime, stime, cutime, cstime are fields 14 to 17; `fields` starts at field 3.
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * TICK_MS, 0);
}

export function rssBytesOf(pid: number): number {
  return Number(readProc(pid, 'statm').split(' ')[1] ?? 0) * PAGE_BYTES;
}

/** Resident memory with shared pages divided among those who share them; needs to be root. */
export function pssBytesOf(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB/m.exec(readProc(pid, 'smaps_rollup'))?.[1] ?? 0) * 1024;
}

/** Undefined once the process is gone. */
export function parentOf(pid: number): number | undefined {
  const parent = statFields(pid)[1];
  return parent === undefined ? undefined : Number(parent);
}

/** Resident memory of all processes of one session, pages that they share counted for each. */
export function sessionRssBytes(session: number): number {
  let sum = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    if (Number(statFields(pid)[3]) === session) sum += rssBytesOf(pid);
  }
  return sum;
}

/** CPU time by thread name, of the threads that are there now; the native pool is among them. */
export function threadCpuMs(pid: number): Map<string, number> {
  const byThread = new Map<string, number>();
  for (const thread of threadsOf(pid)) {
    const place = `${pid}/task/${thread}`;
    const [user = 0, system = 0] = statFields(place).slice(11, 13).map(Number);
    byThread.set(`${readProc(place, 'comm').trim()} ${thread}`, (user + system) * TICK_MS);
  }
  return byThread;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT' || errnoOf(reason) === 'ESRCH') return [];
    throw reason;
  }
}

/** The fields after "pid (comm) "; comm may hold anything, so they start at its last bracket. */
function statFields(pid: number | string): string[] {
  const stat = readProc(pid, 'stat');
  return stat === '' ? [] : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** Empty for a process that has ended. */
function readProc(pid: number | string, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT' || errnoOf(reason) === 'ESRCH') return '';
    throw reason;
  }
}
