import { readFile, readlink } from 'node:fs/promises';
import { BuilderdError, errnoOf } from '../core/errors.ts';
import { EXPIRE_LABEL, OWNER_LABEL, type Lease, type Leases } from './leases.ts';
import type { NamespacedCall } from './rpc-channel.ts';

/**
 * The value of a lease's owner label: which boot, which pid namespace, which process and when that
 * started, so that a recycled pid or another container's pid is not taken for the owner.
 */
export async function currentLeaseOwner(): Promise<string> {
  const owner = await readOwner(process.pid);
  if (owner !== undefined) return owner;
  throw new BuilderdError('internal', 'Cannot read /proc/self/stat: this process has no entry');
}

/** Deletes the leases of ours whose process is gone or whose time is over; returns their ids. */
export async function sweepStaleLeases(leases: Leases, call: NamespacedCall): Promise<string[]> {
  const swept: string[] = [];
  for (const lease of await leases.list([`labels.${JSON.stringify(OWNER_LABEL)}`], call)) {
    if (!(await isStale(lease))) continue;
    await leases.delete(lease.id, { sync: false }, call);
    swept.push(lease.id);
  }
  return swept;
}

async function isStale(lease: Lease): Promise<boolean> {
  const expires = Date.parse(lease.labels.get(EXPIRE_LABEL) ?? '');
  if (expires < Date.now()) return true;
  const owner = lease.labels.get(OWNER_LABEL) ?? '';
  const [boot, pidNamespace, pid] = owner.split('.');
  const [ourBoot, ourPidNamespace] = (await currentLeaseOwner()).split('.');
  if (boot !== ourBoot) return true;
  // A process that we cannot see may live: its lease ends by its expiry.
  if (pidNamespace !== ourPidNamespace || !/^\d+$/.test(pid ?? '')) return false;
  return (await readOwner(Number(pid))) !== owner;
}

async function readOwner(pid: number): Promise<string | undefined> {
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const pidNamespace = /\d+/.exec(await readlink('/proc/self/ns/pid'))?.[0] ?? '';
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
    // proc(5): field 22 is the start time; field 2 may hold spaces and brackets.
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    return [boot, pidNamespace, pid, startTime].join('.');
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT' || errnoOf(reason) === 'ESRCH') return undefined;
    throw reason;
  }
}
