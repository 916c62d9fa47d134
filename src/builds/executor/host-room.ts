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
export function roomOf({ availableMemoryBytes, disk }: HostState, reserved: Reserved): HostRoom {
  const diskReserve = Math.min(disk.totalBytes * DISK_RESERVE_SHARE, DISK_RESERVE_MAX_BYTES);
  const memory = availableMemoryBytes - MEMORY_RESERVE_BYTES;
  const freeDisk = disk.freeBytes - diskReserve;
  if (reserved.builds === 0) {
    return {
      freeMemoryBytes: memory > 0 ? Number.MAX_SAFE_INTEGER : 0,
      freeDiskBytes: freeDisk > 0 ? Number.MAX_SAFE_INTEGER : 0,
    };
  }
  return {
    freeMemoryBytes: Math.max(0, Math.floor(memory - reserved.memoryBytes)),
    freeDiskBytes: Math.max(0, Math.floor(freeDisk - reserved.diskBytes)),
  };
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
