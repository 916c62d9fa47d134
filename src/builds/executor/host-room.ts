import { readFile } from 'node:fs/promises';
import type { StoreSpace } from '../../store/artifacts/artifact-store.ts';

/** What this host can still take. */
export interface HostRoom {
  readonly freeMemoryBytes: number;
  readonly freeDiskBytes: number;
}

export interface HostState {
  readonly availableMemoryBytes: number;
  readonly disk: StoreSpace;
}

/** What running builds were promised, whether they use it yet or not. */
export interface Reserved {
  readonly builds: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** For the service itself, the database and containerd. */
const MEMORY_RESERVE_BYTES = 256 * MIB;
/** A disk that is full hurts more than builds: logs and the database live on it too. */
const DISK_RESERVE_SHARE = 0.1;
const DISK_RESERVE_MAX_BYTES = 5 * GIB;

/**
 * Room for one more build. Promises to running builds count in full, also where the memory is in
 * use already: a host that is never overbooked beats one that is used up. A host that runs nothing
 * takes any one build as long as its own reserve is there: a promise larger than the host would
 * otherwise wait for ever.
 */
export function roomOf(state: HostState, reserved: Reserved): HostRoom {
  const free = freeOf(state, reserved);
  if (reserved.builds > 0) return free;
  return {
    freeMemoryBytes: free.freeMemoryBytes > 0 ? Number.MAX_SAFE_INTEGER : 0,
    freeDiskBytes: free.freeDiskBytes > 0 ? Number.MAX_SAFE_INTEGER : 0,
  };
}

/** What is there beyond the reserve and the promises: the number that people are told. */
export function freeOf({ availableMemoryBytes, disk }: HostState, reserved: Reserved): HostRoom {
  const memory = availableMemoryBytes - MEMORY_RESERVE_BYTES - reserved.memoryBytes;
  const freeDisk = beyondReserve(disk) - reserved.diskBytes;
  return {
    freeMemoryBytes: Math.max(0, Math.floor(memory)),
    freeDiskBytes: Math.max(0, Math.floor(freeDisk)),
  };
}

/** Whether the disk has nothing left but what is kept for logs and the database. */
export function isFull(disk: StoreSpace): boolean {
  return beyondReserve(disk) <= 0;
}

/** Of several disks the one that builds fill first. */
export function scarcest(first: StoreSpace, ...others: readonly StoreSpace[]): StoreSpace {
  return others.reduce((a, b) => (beyondReserve(b) < beyondReserve(a) ? b : a), first);
}

function beyondReserve({ freeBytes, totalBytes }: StoreSpace): number {
  return freeBytes - Math.min(totalBytes * DISK_RESERVE_SHARE, DISK_RESERVE_MAX_BYTES);
}

/** MemAvailable of /proc/meminfo in bytes: what can be had without swapping (since Linux 3.14). */
export function parseAvailableMemory(meminfo: string): number {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  return kib === undefined ? 0 : Number(kib) * 1024;
}

/** The host's, or what is left of the service's own memory limit if that is less. */
export async function readAvailableMemory(): Promise<number> {
  const host = parseAvailableMemory(await readFile('/proc/meminfo', 'utf8'));
  const own = process.availableMemory();
  return own > 0 ? Math.min(host, own) : host;
}
