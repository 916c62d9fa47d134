import type { Readable } from 'node:stream';
import type { BuildState } from '../../core/build-state.ts';
import type { BuildId } from '../../core/ids.ts';
import type { BuildSpec } from '../build-spec.ts';
import type { Caller, TenantRef } from './caller.ts';
import type { ArtifactView, BuildView, LogEntry } from './views.ts';

export interface Call {
  readonly signal: AbortSignal;
}

export interface ListBuilds {
  readonly states?: readonly BuildState[];
  /** Equal to all of these. */
  readonly labels?: Readonly<Record<string, string>>;
  /** 1 to 500; a page is shorter where its builds have long texts. */
  readonly limit: number;
  /** From an earlier answer; `api.invalid` when forged or of another tenant. */
  readonly cursor?: string;
}

export interface BuildPage {
  readonly builds: readonly BuildView[];
  readonly nextCursor?: string;
  readonly total: number;
}

export interface BuildStats {
  readonly totalBuilds: number;
  readonly successfulBuilds: number;
  readonly failedBuilds: number;
  readonly averageBuildMs: number;
  readonly totalStorageBytes: number;
  readonly totalComputeMinutes: number;
  readonly recentBuilds: readonly BuildView[];
}

/** Bytes `start` to `end`, both inclusive, of the plain artifact. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * What can be done with builds, for one tenant at a time; REST and RPC are thin over it. A build of
 * another tenant is answered `api.not_found`, like one that does not exist.
 */
export interface BuildService {
  /**
   * One transaction: idempotency key, quotas, row, event. Throws `quota.exceeded`, `quota.denied`,
   * `api.invalid`, `source.invalid`, `not_supported`, `api.forbidden` (tenant suspended),
   * `api.key_reused` (idempotency key of another request), `api.conflict` (its build was deleted).
   * Quota faults tell `quotaType`, `current`, `limit` and maybe `retryAfterSeconds` in their details.
   */
  create(
    caller: Caller,
    tenant: TenantRef,
    spec: BuildSpec,
    options: Call & {
      readonly idempotencyKey?: string;
      /** JSON of the RPC's BuildConfig, already without secrets. */
      readonly wireConfig?: string;
      readonly traceParent?: string;
    },
  ): Promise<{ readonly build: BuildView; readonly created: boolean }>;
  get(tenant: TenantRef, id: BuildId, call: Call): Promise<BuildView>;
  /** Builds of a list have no `image`, and no `wireConfig` that is long: `get` has them. */
  list(tenant: TenantRef, query: ListBuilds, call: Call): Promise<BuildPage>;
  /** Idempotent; answers the state after the request was noted. */
  cancel(caller: Caller, tenant: TenantRef, id: BuildId, call: Call): Promise<BuildView>;
  /** A running build is refused (`api.conflict`) unless `force`, which cancels first. */
  delete(
    caller: Caller,
    tenant: TenantRef,
    id: BuildId,
    options: Call & { readonly force: boolean },
  ): Promise<void>;
  /**
   * Entries from `from` on, at most `limit`, and not more than some megabytes: fewer than asked for
   * is not the end. None are there (yet) when none are given; `ended` when none will follow.
   */
  readLog(
    tenant: TenantRef,
    id: BuildId,
    options: Call & { readonly from: number; readonly limit: number },
  ): Promise<{ readonly entries: readonly LogEntry[]; readonly ended: boolean }>;
  /**
   * Batches as they come, until the build ends; ends quietly with the signal. The call itself takes
   * a follower's place and throws `api.too_many` beyond the limits; iteration, or the signal, gives
   * it back. The first `next()` throws `api.not_found`; any throws `service.unavailable` when the
   * service closes.
   */
  followLog(
    tenant: TenantRef,
    id: BuildId,
    options: Call & { readonly from: number },
  ): AsyncIterable<readonly LogEntry[]>;
  artifacts(tenant: TenantRef, id: BuildId, call: Call): Promise<readonly ArtifactView[]>;
  /** Throws `artifact.missing`, `artifact.corrupt`. */
  openArtifact(
    tenant: TenantRef,
    id: BuildId,
    name: string,
    options: Call & { readonly range?: ByteRange },
  ): Promise<{ readonly artifact: ArtifactView; readonly body: Readable }>;
  stats(
    tenant: TenantRef,
    period: { readonly from?: number; readonly to?: number },
    call: Call,
  ): Promise<BuildStats>;
}
