const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

export const TIERS = ['free', 'pro', 'enterprise', 'dedicated'] as const;
export type Tier = (typeof TIERS)[number];

/** What one tenant may use. Tiers give the values, an operator may override each for a tenant. */
export interface Quotas {
  readonly maxConcurrentBuilds: number;
  /** Builds that may wait; further ones are refused. */
  readonly maxQueuedBuilds: number;
  /** Builds accepted in one UTC day. */
  readonly maxDailyBuilds: number;
  /** Minutes that the builds of one UTC day may run, all together; none start after that. */
  readonly maxDailyComputeMinutes: number;
  /** Longest deadline that a build may ask for. */
  readonly maxBuildMinutes: number;
  /** Deadline of a build that asks for none. */
  readonly timeoutSeconds: number;
  /** Per build. */
  readonly maxMemoryBytes: number;
  readonly maxCpuCores: number;
  readonly maxDiskBytes: number;
  /** All artifacts of the tenant. */
  readonly maxStorageBytes: number;
  readonly allowExternalNetwork: boolean;
  readonly allowedRegistries: readonly string[];
  readonly allowedGitHosts: readonly string[];
  readonly encryption: boolean;
  readonly retentionDays: number;
  /** API requests a minute, and how many may come at once. */
  readonly requestsPerMinute: number;
  readonly requestBurst: number;
  /** Share of the executors when all tenants want more than there is. */
  readonly weight: number;
}

const FREE: Quotas = {
  maxConcurrentBuilds: 1,
  maxQueuedBuilds: 100,
  maxDailyBuilds: 5,
  maxDailyComputeMinutes: 25,
  maxBuildMinutes: 5,
  timeoutSeconds: 300,
  maxMemoryBytes: 512 * MIB,
  maxCpuCores: 1,
  maxDiskBytes: GIB,
  maxStorageBytes: GIB,
  allowExternalNetwork: false,
  allowedRegistries: ['docker.io', 'ghcr.io'],
  allowedGitHosts: ['github.com'],
  encryption: false,
  retentionDays: 30,
  requestsPerMinute: 60,
  requestBurst: 10,
  weight: 100,
};

const PRO: Quotas = {
  ...FREE,
  maxConcurrentBuilds: 3,
  maxQueuedBuilds: 500,
  maxDailyBuilds: 100,
  maxDailyComputeMinutes: 1500,
  maxBuildMinutes: 15,
  timeoutSeconds: 900,
  maxMemoryBytes: 2 * GIB,
  maxCpuCores: 2,
  maxDiskBytes: 10 * GIB,
  maxStorageBytes: 10 * GIB,
  allowExternalNetwork: true,
  allowedRegistries: ['*'],
  allowedGitHosts: ['*'],
  requestsPerMinute: 300,
  requestBurst: 50,
  weight: 200,
};

/** The table of the first builderd's four tiers; an unknown tier there was a free one. */
export const TIER_QUOTAS: Readonly<Record<Tier, Quotas>> = {
  free: FREE,
  pro: PRO,
  enterprise: {
    ...PRO,
    maxConcurrentBuilds: 10,
    maxQueuedBuilds: 2000,
    maxDailyBuilds: 1000,
    maxDailyComputeMinutes: 30_000,
    maxBuildMinutes: 30,
    timeoutSeconds: 1800,
    maxMemoryBytes: 8 * GIB,
    maxCpuCores: 4,
    maxDiskBytes: 100 * GIB,
    maxStorageBytes: 100 * GIB,
    encryption: true,
    retentionDays: 90,
    requestsPerMinute: 1000,
    requestBurst: 100,
    weight: 400,
  },
  dedicated: {
    ...PRO,
    maxConcurrentBuilds: 50,
    maxQueuedBuilds: 10_000,
    maxDailyBuilds: 10_000,
    maxDailyComputeMinutes: 600_000,
    maxBuildMinutes: 60,
    timeoutSeconds: 3600,
    maxMemoryBytes: 32 * GIB,
    maxCpuCores: 16,
    maxDiskBytes: 1024 * GIB,
    maxStorageBytes: 1024 * GIB,
    encryption: true,
    retentionDays: 90,
    requestsPerMinute: 5000,
    requestBurst: 500,
    weight: 800,
  },
};

/** The names that metrics, violations and errors use for a limit. */
export const QUOTA_TYPES = [
  'concurrent_builds',
  'queued_builds',
  'daily_builds',
  'storage',
  'compute',
  'build_time',
  'memory',
  'cpu',
  'disk',
  'network',
  'requests',
] as const;
export type QuotaType = (typeof QUOTA_TYPES)[number];
