import { readdir, readFile } from 'node:fs/promises';
import { errnoOf } from '../../core/errors.ts';

/** A process that could still do something. */
export interface LivingProcess {
  readonly pid: number;
  readonly name: string;
  /** Real, effective, saved, and of the file system. */
  readonly uids: readonly number[];
}

/** All that live in our pid namespace, without zombies: those hold nothing but their number. */
export async function livingProcesses(): Promise<LivingProcess[]> {
  const names = await readdir('/proc');
  const found = await Promise.all(
    names.filter((name) => /^[1-9]\d*$/.test(name)).map((name) => look(Number(name))),
  );
  return found.filter((each) => each !== undefined);
}

async function look(pid: number): Promise<LivingProcess | undefined> {
  try {
    return parseProcessStatus(pid, await readFile(`/proc/${pid}/status`, 'latin1'));
  } catch (reason) {
    // It ended while we looked.
    if (['ENOENT', 'ESRCH'].includes(errnoOf(reason) ?? '')) return undefined;
    throw reason;
  }
}

/** proc(5). Undefined for one that is dead. */
export function parseProcessStatus(pid: number, status: string): LivingProcess | undefined {
  const field = (name: string): string =>
    new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
  // The first thread may be a zombie while others live on.
  if (/^[ZX]/.test(field('State')) && Number(field('Threads')) <= 1) return undefined;
  return { pid, name: field('Name'), uids: field('Uid').split(/\s+/).map(Number) };
}
