import { create, fromJsonString, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { BuildView, LogEntry } from '../../builds/service/views.ts';
import type { TenantView, UsageView, ViolationView } from '../../builds/service/tenant-service.ts';
import type { BuildState as State } from '../../core/build-state.ts';
import type { Quotas, Tier } from '../../core/quotas.ts';
import {
  type BuildConfig,
  BuildConfigSchema,
  type BuildJobSchema,
  BuildState,
  type GetTenantQuotasResponseSchema,
  type StreamBuildLogsResponseSchema,
  TenantTier,
} from './generated/builder_pb.js';

const STATES: Readonly<Record<State, BuildState>> = {
  pending: BuildState.PENDING,
  pulling: BuildState.PULLING,
  extracting: BuildState.EXTRACTING,
  building: BuildState.BUILDING,
  optimizing: BuildState.OPTIMIZING,
  completed: BuildState.COMPLETED,
  failed: BuildState.FAILED,
  cancelled: BuildState.CANCELLED,
  cleaning: BuildState.CLEANING,
};

const TIERS: Readonly<Record<Tier, TenantTier>> = {
  free: TenantTier.FREE,
  pro: TenantTier.PRO,
  enterprise: TenantTier.ENTERPRISE,
  dedicated: TenantTier.DEDICATED,
};

export const presentState = (state: State): BuildState => STATES[state];

/** Undefined for UNSPECIFIED and for numbers that no state has. */
export function stateOf(wire: BuildState): State | undefined {
  for (const [state, number] of Object.entries(STATES)) {
    if (number === wire && isState(state)) return state;
  }
  return undefined;
}

const isState = (name: string): name is State => Object.hasOwn(STATES, name);

/** The path below the API where the disk is downloaded: callers have no business with host paths. */
export function rootfsPath(build: BuildView): string {
  const rootfs = rootfsOf(build);
  return rootfs === undefined ? '' : `/v1/builds/${build.id}/artifacts/${rootfs.name}`;
}

const rootfsOf = ({ artifacts }: BuildView) =>
  artifacts.find(({ name }) => name === 'rootfs.ext4') ??
  artifacts.find(({ name }) => name.startsWith('rootfs.'));

/** `logs`: the first lines of the build's log, where an answer has room for them. */
export function presentJob(
  build: BuildView,
  tier: Tier | undefined,
  logs: readonly LogEntry[] = [],
): MessageInitShape<typeof BuildJobSchema> {
  const { metrics, isolation, image } = build;
  const rootfs = rootfsOf(build);
  return {
    buildId: build.id,
    config: configOf(build, tier),
    state: presentState(build.state),
    createdAt: timestampFromMs(build.createdAt),
    ...(build.startedAt === undefined ? {} : { startedAt: timestampFromMs(build.startedAt) }),
    ...(build.finishedAt === undefined ? {} : { completedAt: timestampFromMs(build.finishedAt) }),
    rootfsPath: rootfsPath(build),
    rootfsSizeBytes: BigInt(rootfs?.sizeBytes ?? 0),
    rootfsChecksum: rootfs?.digest.replace(/^sha256:/, '') ?? '',
    ...(image === undefined
      ? {}
      : {
          imageMetadata: {
            ...image,
            layers: [...image.layers],
            labels: { ...image.labels },
            command: [...image.command],
            entrypoint: [...image.entrypoint],
            env: { ...image.env },
            exposedPorts: [...image.exposedPorts],
            volumes: [...image.volumes],
          },
        }),
    ...(metrics === undefined
      ? {}
      : {
          metrics: {
            pullDurationMs: whole(metrics.pullDurationMs),
            extractDurationMs: whole(metrics.extractDurationMs),
            buildDurationMs: whole(metrics.buildDurationMs),
            optimizeDurationMs: whole(metrics.optimizeDurationMs),
            totalDurationMs: whole(metrics.totalDurationMs),
            originalSizeBytes: whole(metrics.originalSizeBytes),
            rootfsSizeBytes: whole(metrics.rootfsSizeBytes),
            compressionRatio: whole(metrics.compressionRatio),
            memoryPeakBytes: whole(metrics.memoryPeakBytes),
            diskUsageBytes: whole(metrics.diskUsageBytes),
            cpuCoresUsed: Math.ceil(metrics.cpuCoresUsed),
          },
        }),
    ...(isolation === undefined
      ? {}
      : { isolation: { ...isolation, securityContexts: [...isolation.securityContexts] } }),
    errorMessage: build.error === undefined ? '' : `${build.error.code}: ${build.error.message}`,
    buildLogs: logs.map(({ message }) => message),
    progressPercent: Math.floor(build.progressPercent),
    currentStep: build.currentStep,
  };
}

/** As it was sent, or what a build from REST would have been; with the tier that the tenant has. */
function configOf(build: BuildView, tier: Tier | undefined): BuildConfig {
  const config =
    build.wireConfig === undefined
      ? create(BuildConfigSchema, fromSpec(build))
      : fromJsonString(BuildConfigSchema, build.wireConfig, { ignoreUnknownFields: true });
  if (config.tenant !== undefined) {
    config.tenant.tenantId = build.tenant;
    if (tier !== undefined) config.tenant.tier = TIERS[tier];
  }
  return config;
}

function fromSpec({
  spec,
  tenant,
  name,
  labels,
}: BuildView): MessageInitShape<typeof BuildConfigSchema> {
  return {
    tenant: { tenantId: tenant },
    source: { sourceType: wireSource(spec) },
    target: { targetType: { case: 'microvmRootfs', value: wireRootfs(spec) } },
    strategy: { strategyType: { case: 'dockerExtract', value: { flattenFilesystem: true } } },
    buildName: name,
    labels: { ...labels },
    ...(spec.limits === undefined && spec.timeoutSeconds === undefined
      ? {}
      : { limits: wireLimits(spec) }),
  };
}

function wireRootfs({ target }: BuildView['spec']) {
  const { exclude = [], preserve = [], removeDocs = false, removeCache = false } = target ?? {};
  const { entrypoint, command, workingDir, env, exposedPorts } = target?.runtime ?? {};
  const optimization = {
    excludePatterns: [...exclude],
    preservePaths: [...preserve],
    removeDocs,
    removeCache,
  };
  const isSet = exclude.length > 0 || preserve.length > 0 || removeDocs || removeCache;
  const runtimeConfig = {
    entrypoint: [...(entrypoint ?? [])],
    command: [...(command ?? [])],
    workingDir: workingDir ?? '',
    environment: { ...env },
    exposedPorts: [...(exposedPorts ?? [])],
  };
  return {
    ...(isSet ? { optimization } : {}),
    ...(target?.runtime === undefined ? {} : { runtimeConfig }),
  };
}

function wireLimits({ limits, timeoutSeconds = 0 }: BuildView['spec']) {
  const { maxMemoryBytes = 0, maxDiskBytes = 0 } = limits ?? {};
  return {
    timeoutSeconds,
    maxMemoryBytes: whole(maxMemoryBytes),
    maxDiskBytes: whole(maxDiskBytes),
  };
}

function wireSource({ source }: BuildView['spec']) {
  if ('image' in source) {
    return { case: 'dockerImage', value: { imageUri: source.image.reference } } as const;
  }
  if ('git' in source) {
    const { url, ref = '', context = '' } = source.git;
    return {
      case: 'gitRepository',
      value: { repositoryUrl: url, ref, buildContext: context },
    } as const;
  }
  const { url, type = '', context = '' } = source.archive;
  return {
    case: 'archive',
    value: { archiveUrl: url, archiveType: type, buildContext: context },
  } as const;
}

export function presentLogEntry(
  entry: LogEntry,
): MessageInitShape<typeof StreamBuildLogsResponseSchema> {
  return {
    timestamp: timestampFromMs(entry.time),
    level: entry.level,
    message: entry.message,
    component: entry.component,
    metadata: { ...entry.metadata, entry: String(entry.n) },
  };
}

export function presentQuotas(
  tenant: TenantView,
  usage: UsageView,
  violations: readonly ViolationView[],
): MessageInitShape<typeof GetTenantQuotasResponseSchema> {
  return {
    currentLimits: limitsOf(tenant.quotas),
    currentUsage: {
      activeBuilds: usage.activeBuilds,
      dailyBuildsUsed: usage.dailyBuildsUsed,
      storageBytesUsed: whole(usage.storageBytesUsed),
      computeMinutesUsed: whole(usage.computeMinutesUsed),
      buildsQueued: usage.queuedBuilds,
      buildsCompletedToday: usage.buildsCompletedToday,
      buildsFailedToday: usage.buildsFailedToday,
    },
    violations: violations.map(({ quotaType, currentValue, limitValue, message }) => ({
      quotaType,
      currentValue: whole(currentValue),
      limitValue: whole(limitValue),
      message,
    })),
  };
}

function limitsOf(quotas: Quotas) {
  return {
    maxMemoryBytes: whole(quotas.maxMemoryBytes),
    maxCpuCores: Math.ceil(quotas.maxCpuCores),
    maxDiskBytes: whole(quotas.maxDiskBytes),
    timeoutSeconds: quotas.timeoutSeconds,
    maxConcurrentBuilds: quotas.maxConcurrentBuilds,
    maxDailyBuilds: quotas.maxDailyBuilds,
    maxStorageBytes: whole(quotas.maxStorageBytes),
    maxBuildTimeMinutes: quotas.maxBuildMinutes,
    allowedRegistries: [...quotas.allowedRegistries],
    allowedGitHosts: [...quotas.allowedGitHosts],
    allowExternalNetwork: quotas.allowExternalNetwork,
  };
}

const whole = (value: number): bigint => BigInt(Math.round(value));
