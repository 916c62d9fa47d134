import { BuilderdError } from '../../../core/errors.ts';
import type { Quotas } from '../../../core/quotas.ts';
import { formatBytes } from '../../../core/units.ts';
import type { QuotaChange } from '../../../store/tenants/parse-quota-change.ts';
import type { HostCapacity } from './tenant-deps.ts';

/**
 * Refuses what cannot be meant, before it is written: a build larger than the host, or a default
 * deadline beyond the longest one. Only what this change names is held against the host: the
 * tiers' own values are wishes that admission cuts to size. Throws `api.invalid`.
 */
export function checkCapacity(
  quotas: Quotas,
  change: QuotaChange,
  host: HostCapacity | undefined,
): void {
  const longestSeconds = quotas.maxBuildMinutes * 60;
  if (quotas.timeoutSeconds > longestSeconds) {
    throw invalid(
      `timeoutSeconds ${quotas.timeoutSeconds}: maxBuildMinutes allows ${longestSeconds} s`,
    );
  }
  if (host === undefined) return;
  const { maxMemoryBytes, maxCpuCores, maxDiskBytes, maxStorageBytes } = change;
  if ((maxMemoryBytes ?? 0) > host.memoryBytes) {
    throw tooMuch('maxMemoryBytes', maxMemoryBytes, host.memoryBytes);
  }
  if ((maxCpuCores ?? 0) > host.cpuCores) {
    throw invalid(`maxCpuCores ${maxCpuCores}: the host has ${host.cpuCores}`);
  }
  if ((maxDiskBytes ?? 0) > host.diskBytes) {
    throw tooMuch('maxDiskBytes', maxDiskBytes, host.diskBytes);
  }
  if ((maxStorageBytes ?? 0) > host.diskBytes) {
    throw tooMuch('maxStorageBytes', maxStorageBytes, host.diskBytes);
  }
}

function tooMuch(name: string, wanted: number | null | undefined, has: number): BuilderdError {
  return invalid(
    `${name} ${wanted} (${formatBytes(wanted ?? 0)}): the host has ${has} (${formatBytes(has)})`,
  );
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot set ${fact}`);
}
