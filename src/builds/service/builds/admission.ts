import { BuilderdError } from '../../../core/errors.ts';
import type { QuotaType, Quotas } from '../../../core/quotas.ts';
import { formatBytes, fullMinutes } from '../../../core/units.ts';
import type { Admitted } from '../../../store/builds/count-admitted.ts';
import type { BuildSpec } from '../../build-spec.ts';
import type { SpecFacts } from './check-spec.ts';
import { registryAllowed } from './registry-allowed.ts';

/** What the operator sets for all tenants. */
export interface AdmissionLimits {
  /** BUILD_TIMEOUT: deadline of a build that asks for none, if its tier's is not shorter. */
  readonly buildTimeoutMs: number;
  /** Reserved for each build on its host, if its tenant may use that much. */
  readonly memoryBytes: number;
  readonly diskBytes: number;
  /** DOCKER_ALLOWED_REGISTRIES: empty for all. */
  readonly allowedRegistries: readonly string[];
}

export interface Refusal {
  readonly quotaType: QuotaType;
  readonly current: number;
  readonly limit: number;
  /** Tells why, with both numbers. */
  readonly message: string;
  /** Present when waiting may help. */
  readonly retryAfterSeconds?: number;
}

/** What an admitted build gets. */
export interface Grant {
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

/** A build in the queue ends, or an operator deletes something: nobody knows when. */
const RETRY_SOON_S = 30;

/** What the build would get if the tenant had room; what no waiting can cure is refused here. */
export function grantFor(
  spec: BuildSpec,
  { registry }: SpecFacts,
  quotas: Quotas,
  limits: AdmissionLimits,
): Grant | Refusal {
  const allowed =
    registryAllowed(registry, quotas.allowedRegistries) &&
    (limits.allowedRegistries.length === 0 || registryAllowed(registry, limits.allowedRegistries));
  if (!allowed) {
    return refuse(
      'network',
      1,
      0,
      `registry ${JSON.stringify(registry)} is not on the list of the tenant`,
    );
  }
  const longestSeconds = quotas.maxBuildMinutes * 60;
  if (spec.timeoutSeconds !== undefined && spec.timeoutSeconds > longestSeconds) {
    return refuse(
      'build_time',
      spec.timeoutSeconds,
      longestSeconds,
      `it asks for ${spec.timeoutSeconds} seconds, the tenant may have ${longestSeconds}`,
    );
  }
  const wantedDisk = spec.target?.sizeBytes ?? spec.target?.extraBytes ?? 0;
  if (wantedDisk > quotas.maxDiskBytes) {
    return refuse(
      'disk',
      wantedDisk,
      quotas.maxDiskBytes,
      `it asks for a disk of ${formatBytes(wantedDisk)}, the tenant may have ${formatBytes(quotas.maxDiskBytes)}`,
    );
  }
  const usualSeconds = Math.min(
    quotas.timeoutSeconds,
    longestSeconds,
    limits.buildTimeoutMs / 1000,
  );
  const { maxMemoryBytes = Infinity, maxDiskBytes = Infinity } = spec.limits ?? {};
  return {
    timeoutMs: Math.round((spec.timeoutSeconds ?? usualSeconds) * 1000),
    memoryBytes: Math.min(limits.memoryBytes, quotas.maxMemoryBytes, maxMemoryBytes),
    diskBytes: Math.min(Math.max(limits.diskBytes, wantedDisk), quotas.maxDiskBytes, maxDiskBytes),
  };
}

/** Whether the tenant has room for one more build; undefined when it has. */
export function refusalFor(
  quotas: Quotas,
  admitted: Admitted,
  storageBytes: number,
): Refusal | undefined {
  const tomorrow = Math.ceil(admitted.msToMidnight / 1000);
  if (admitted.createdToday >= quotas.maxDailyBuilds) {
    return refuse(
      'daily_builds',
      admitted.createdToday,
      quotas.maxDailyBuilds,
      `${admitted.createdToday} of ${quotas.maxDailyBuilds} builds of this UTC day were accepted`,
      tomorrow,
    );
  }
  const minutes = fullMinutes(admitted.buildMsToday);
  if (minutes >= quotas.maxDailyComputeMinutes) {
    return refuse(
      'compute',
      minutes,
      quotas.maxDailyComputeMinutes,
      `${minutes} of ${quotas.maxDailyComputeMinutes} build minutes of this UTC day are used`,
      tomorrow,
    );
  }
  const { releasedBytes } = admitted;
  const takenBytes = storageBytes + releasedBytes;
  if (takenBytes >= quotas.maxStorageBytes) {
    const advice =
      releasedBytes === 0
        ? 'delete builds to make room'
        : `${formatBytes(releasedBytes)} of it are deleted and will be removed soon`;
    return refuse(
      'storage',
      takenBytes,
      quotas.maxStorageBytes,
      `artifacts take ${formatBytes(takenBytes)} of ${formatBytes(quotas.maxStorageBytes)}; ${advice}`,
      RETRY_SOON_S,
    );
  }
  if (admitted.queued >= quotas.maxQueuedBuilds) {
    return refuse(
      'queued_builds',
      admitted.queued,
      quotas.maxQueuedBuilds,
      `${admitted.queued} of ${quotas.maxQueuedBuilds} builds wait already`,
      RETRY_SOON_S,
    );
  }
  return undefined;
}

export function isRefusal(answer: Grant | Refusal): answer is Refusal {
  return 'quotaType' in answer;
}

/** `quota.exceeded` when waiting may help, else `quota.denied`. */
export function refusalError(refusal: Refusal): BuilderdError {
  const { quotaType, current, limit, message, retryAfterSeconds } = refusal;
  return new BuilderdError(
    retryAfterSeconds === undefined ? 'quota.denied' : 'quota.exceeded',
    `Cannot create the build: ${message}`,
    {
      details: {
        quotaType,
        current,
        limit,
        ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
      },
    },
  );
}

function refuse(
  quotaType: QuotaType,
  current: number,
  limit: number,
  message: string,
  retryAfterSeconds?: number,
): Refusal {
  const refusal = { quotaType, current, limit, message };
  return retryAfterSeconds === undefined ? refusal : { ...refusal, retryAfterSeconds };
}
