import { BuilderdError } from '../../core/errors.ts';
import type { Platform } from '../../core/oci.ts';
import type { Quotas } from '../../core/quotas.ts';
import { parsePlatform } from '../../runtime/registry/platform.ts';
import { parseReference } from '../../runtime/registry/reference.ts';
import { parseBuildSpec } from '../parse-build-spec.ts';
import type { PullPolicy } from '../ports.ts';
import type { BuildRequest } from '../request.ts';
import { requestedFilter } from '../requested-filter.ts';
import { checkSpec } from '../service/builds/check-spec.ts';
import { registryAllowed } from '../service/builds/registry-allowed.ts';

/** What one attempt does, read from its row and held to what its tenant may do now. */
export interface AttemptPlan
  extends Pick<
    BuildRequest,
    | 'platform'
    | 'pullPolicy'
    | 'formats'
    | 'ext4'
    | 'guestFiles'
    | 'devices'
    | 'filter'
    | 'runtime'
    | 'sourceDateEpoch'
  > {
  readonly reference: string;
  /** Canonical `host[:port]`. */
  readonly registry: string;
  /** The tenant's, or less where the request wants less. */
  readonly maxMemoryBytes: number;
  readonly maxDiskBytes: number;
}

export interface PlanDefaults {
  /** The host's. */
  readonly platform: Platform;
  readonly pullPolicy: PullPolicy;
  /** DOCKER_ALLOWED_REGISTRIES: empty for all. */
  readonly allowedRegistries: readonly string[];
}

/**
 * A row is foreign data, and what was allowed when it was written may not be any more: everything
 * is checked again. Throws `quota.denied`, `not_supported`, `source.invalid`, `api.invalid`,
 * `internal`.
 */
export function planAttempt(spec: unknown, quotas: Quotas, defaults: PlanDefaults): AttemptPlan {
  const request = parseBuildSpec(spec, 'internal');
  const { registry } = checkSpec(request);
  requireAllowed(registry, quotas.allowedRegistries, defaults.allowedRegistries);
  if (!('image' in request.source)) {
    throw new BuilderdError('internal', 'Cannot build: the request has no image');
  }
  const target = request.target ?? {};
  const { sizeBytes, extraBytes = 0, runtime, sourceDateEpoch } = target;
  const filter = requestedFilter(target);
  const { maxMemoryBytes = Infinity, maxDiskBytes = Infinity } = request.limits ?? {};
  return {
    reference: request.source.image.reference,
    registry: parseReference(request.source.image.reference).registry,
    platform: request.platform === undefined ? defaults.platform : parsePlatform(request.platform),
    pullPolicy: request.pullPolicy ?? defaults.pullPolicy,
    formats: target.formats ?? ['ext4'],
    ext4: {
      size:
        sizeBytes === undefined || sizeBytes === 0
          ? { kind: 'min', extraBytes }
          : { kind: 'fixed', bytes: sizeBytes },
      label: target.label ?? '',
      journal: target.journal ?? false,
      lostFound: target.lostFound ?? true,
    },
    guestFiles: target.guestFiles ?? false,
    devices: target.devices ?? 'keep',
    maxMemoryBytes: Math.min(quotas.maxMemoryBytes, maxMemoryBytes),
    maxDiskBytes: Math.min(quotas.maxDiskBytes, maxDiskBytes),
    ...(filter === undefined ? {} : { filter }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(sourceDateEpoch === undefined ? {} : { sourceDateEpoch }),
  };
}

function requireAllowed(
  registry: string,
  ofTenant: readonly string[],
  ofOperator: readonly string[],
): void {
  const allowed =
    registryAllowed(registry, ofTenant) &&
    (ofOperator.length === 0 || registryAllowed(registry, ofOperator));
  if (allowed) return;
  throw new BuilderdError(
    'quota.denied',
    `Cannot pull from ${registry}: it is not on the list of registries of the tenant`,
    { details: { quotaType: 'network', current: 1, limit: 0 } },
  );
}
