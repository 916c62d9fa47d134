import type { BuildState } from '../../core/build-state.ts';
import type { ErrorCode } from '../../core/error-catalogue.ts';
import type { BuildId, TenantName } from '../../core/ids.ts';
import type { BuildSpec } from '../build-spec.ts';

/** A build as callers see it. Times are milliseconds since 1970. */
export interface BuildView {
  readonly id: BuildId;
  readonly tenant: TenantName;
  readonly state: BuildState;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly priority: number;
  /** Without secrets. */
  readonly spec: BuildSpec;
  /** JSON of the RPC's BuildConfig, when it came that way. */
  readonly wireConfig?: string;
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly finishedAt?: number;
  readonly deadlineAt?: number;
  readonly timeoutMs: number;
  readonly attempt: number;
  readonly cancelRequested: boolean;
  readonly progressPercent: number;
  readonly currentStep: string;
  /** While it waits: why, and how many are before it. */
  readonly waiting?: {
    readonly reason: WaitReason;
    readonly ahead: number;
    readonly message: string;
  };
  readonly error?: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly fault: 'user' | 'quota' | 'platform';
    readonly hint: string;
  };
  readonly source?: { readonly reference: string; readonly digest: string };
  readonly image?: ImageFacts;
  readonly metrics?: BuildMetrics;
  readonly isolation?: IsolationFacts;
  readonly artifacts: readonly ArtifactView[];
  readonly steps: readonly StepView[];
  /** Of the resource, for If-Match. */
  readonly version: number;
}

/** Closed set: it is a metric label too. */
export const WAIT_REASONS = [
  'next',
  'tenant_concurrency',
  'host_concurrency',
  'host_memory',
  'host_disk',
  'retry_delay',
  'tenant_suspended',
  'no_executor',
  'runtime_unavailable',
] as const;
export type WaitReason = (typeof WAIT_REASONS)[number];

export interface StepView {
  readonly attempt: number;
  readonly state: BuildState;
  readonly name: string;
  readonly startedAt: number;
  readonly finishedAt?: number;
  readonly outcome?: string;
}

export interface ArtifactView {
  /** `rootfs.ext4`, `rootfs.tar`, `metadata.json`, `fidelity.json`, `build.log`. */
  readonly name: string;
  readonly format: string;
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly createdAt: number;
}

/** ImageMetadata of the wire contract. */
export interface ImageFacts {
  readonly originalImage: string;
  readonly imageDigest: string;
  readonly layers: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly entrypoint: readonly string[];
  readonly workingDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly exposedPorts: readonly string[];
  readonly user: string;
  readonly volumes: readonly string[];
}

/** BuildMetrics of the wire contract, and `pulledBytes`. */
export interface BuildMetrics {
  readonly pullDurationMs: number;
  readonly extractDurationMs: number;
  readonly buildDurationMs: number;
  readonly optimizeDurationMs: number;
  readonly totalDurationMs: number;
  readonly originalSizeBytes: number;
  readonly rootfsSizeBytes: number;
  /** A percentage. */
  readonly compressionRatio: number;
  readonly memoryPeakBytes: number;
  readonly diskUsageBytes: number;
  readonly cpuCoresUsed: number;
  readonly cpuUs: number;
  readonly pulledBytes: number;
}

/** BuildIsolation of the wire contract. */
export interface IsolationFacts {
  readonly sandboxId: string;
  readonly networkNamespace: string;
  readonly filesystemNamespace: string;
  readonly securityContexts: readonly string[];
  readonly cgroupPath: string;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** One log entry; `n` counts from 0 without gaps, and is the cursor. */
export interface LogEntry {
  readonly n: number;
  readonly time: number;
  readonly level: LogLevel;
  /** `puller`, `extractor`, `builder`, `service`. */
  readonly component: string;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, string>>;
}
