import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import type { FastifyRequest } from 'fastify';
import type { TenantRef } from '../../builds/service/caller.ts';
import type { BuildView, LogEntry } from '../../builds/service/views.ts';
import { BuilderdError } from '../../core/errors.ts';
import { parseBuildId, parseTenantName } from '../../core/ids.ts';
import type { Log } from '../../core/log.ts';
import type { ApiContext } from '../api-options.ts';
import { callerOf } from '../auth/request-state.ts';
import { traceParentOf } from '../http/trace-parent.ts';
import { boundConfig } from './bound-config.ts';
import type { BuilderService, BuildState } from './generated/builder_pb.js';
import {
  presentJob,
  presentLogEntry,
  presentQuotas,
  presentState,
  rootfsPath,
  stateOf,
} from './present-job.ts';
import { rpcFault } from './rpc-fault.ts';
import { toBuildSpec, withoutSecrets } from './to-build-spec.ts';

export interface HandlerDeps {
  readonly log: Log;
  /** The request of a call whose message has been read and is handled now. */
  readonly requestOf: (context: HandlerContext) => FastifyRequest;
}

/** Log entries read at a time, and shown in a BuildJob. */
const LOG_PAGE = 1000;
const DEFAULT_PAGE = 50;
const VIOLATIONS = 100;
/** As many as there are. */
const MAX_STATES = 9;
const LAST_TIME_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;

/** The eight methods. Each enters the tenant that its message names, held against the credential. */
export function builderHandlers(
  context: ApiContext,
  { log, requestOf }: HandlerDeps,
): ServiceImpl<typeof BuilderService> {
  const { builds, tenants } = context;

  const answer = async <T>(
    rpc: HandlerContext,
    tenantId: string,
    work: (request: FastifyRequest, tenant: TenantRef) => Promise<T>,
  ): Promise<T> => {
    const request = requestOf(rpc);
    try {
      return await work(request, await enter(request, tenantId));
    } catch (reason) {
      throw rpcFault(reason, request, log);
    }
  };
  const enter = (request: FastifyRequest, tenantId: string): Promise<TenantRef> =>
    context.enterTenant(request, tenantId === '' ? undefined : parseTenantName(tenantId));
  const job = async (
    request: FastifyRequest,
    tenant: TenantRef,
    build: BuildView,
    logs?: readonly LogEntry[],
  ) => {
    const { tier } = await tenants.get(tenant, request.state.call());
    return presentJob(build, tier, logs);
  };

  return {
    createBuild: ({ config }, rpc) =>
      answer(rpc, config?.tenant?.tenantId ?? '', async (request, tenant) => {
        const spec = toBuildSpec(config);
        if (config !== undefined) boundConfig(config);
        const { build } = await builds.create(callerOf(request), tenant, spec, {
          ...request.state.call(),
          ...idempotencyKeyOf(request),
          ...traceParentOf(request),
          ...(config === undefined ? {} : { wireConfig: withoutSecrets(config) }),
        });
        return {
          buildId: build.id,
          state: presentState(build.state),
          createdAt: presentJob(build, undefined).createdAt,
          rootfsPath: rootfsPath(build),
        };
      }),

    getBuild: ({ buildId, tenantId }, rpc) =>
      answer(rpc, tenantId, async (request, tenant) => {
        const call = request.state.call();
        const id = parseBuildId(buildId);
        const build = await builds.get(tenant, id, call);
        const { entries } = await builds.readLog(tenant, id, { ...call, from: 0, limit: LOG_PAGE });
        return { build: await job(request, tenant, build, entries) };
      }),

    listBuilds: ({ tenantId, stateFilter, pageSize, pageToken }, rpc) =>
      answer(rpc, tenantId, async (request, tenant) => {
        if (pageSize < 0 || pageSize > 500) {
          throw new BuilderdError('api.invalid', 'Cannot list builds: page_size must be 0 to 500');
        }
        if (stateFilter.length > MAX_STATES) {
          throw new BuilderdError(
            'api.invalid',
            `Cannot list builds: state_filter holds over ${MAX_STATES} states`,
          );
        }
        const page = await builds.list(
          tenant,
          {
            limit: pageSize === 0 ? DEFAULT_PAGE : pageSize,
            ...(pageToken === '' ? {} : { cursor: pageToken }),
            ...(stateFilter.length === 0 ? {} : { states: stateFilter.map(knownState) }),
          },
          request.state.call(),
        );
        const { tier } = await tenants.get(tenant, request.state.call());
        return {
          builds: page.builds.map((build) => presentJob(build, tier)),
          nextPageToken: page.nextCursor ?? '',
          totalCount: page.total,
        };
      }),

    cancelBuild: ({ buildId, tenantId }, rpc) =>
      answer(rpc, tenantId, async (request, tenant) => {
        const id = parseBuildId(buildId);
        const build = await builds.cancel(callerOf(request), tenant, id, request.state.call());
        const success = build.cancelRequested || build.state === 'cancelled';
        return { success, state: presentState(build.state) };
      }),

    deleteBuild: ({ buildId, tenantId, force }, rpc) =>
      answer(rpc, tenantId, async (request, tenant) => {
        const id = parseBuildId(buildId);
        await builds.delete(callerOf(request), tenant, id, { ...request.state.call(), force });
        return { success: true };
      }),

    async *streamBuildLogs({ buildId, tenantId, follow }, rpc) {
      const request = requestOf(rpc);
      let place: Disposable | undefined;
      try {
        const tenant = await enter(request, tenantId);
        const id = parseBuildId(buildId);
        place = context.openStream(tenant);
        const own = follow ? context.follow(request) : request.state.streamSignal();
        const signal = AbortSignal.any([own, rpc.signal]);
        const batches = follow
          ? builds.followLog(tenant, id, { signal, from: 0 })
          : pages(context, tenant, id, signal);
        for await (const batch of batches) yield* batch.map(presentLogEntry);
        // Nobody may take this for the end of the log.
        signal.throwIfAborted();
      } catch (reason) {
        throw rpcFault(reason, request, log);
      } finally {
        place?.[Symbol.dispose]();
      }
    },

    getTenantQuotas: ({ tenantId }, rpc) =>
      answer(rpc, tenantId, async (request, tenant) => {
        const call = request.state.call();
        return presentQuotas(
          await tenants.get(tenant, call),
          await tenants.usage(tenant, call),
          await tenants.violations(tenant, { ...call, limit: VIOLATIONS }),
        );
      }),

    getBuildStats: ({ tenantId, startTime, endTime }, rpc) =>
      answer(rpc, tenantId, async (request, tenant) => {
        const stats = await builds.stats(
          tenant,
          {
            ...(startTime === undefined ? {} : { from: timeOf(startTime, 'start_time') }),
            ...(endTime === undefined ? {} : { to: timeOf(endTime, 'end_time') }),
          },
          request.state.call(),
        );
        const { tier } = await tenants.get(tenant, request.state.call());
        return {
          totalBuilds: stats.totalBuilds,
          successfulBuilds: stats.successfulBuilds,
          failedBuilds: stats.failedBuilds,
          avgBuildTimeMs: BigInt(Math.round(stats.averageBuildMs)),
          totalStorageBytes: BigInt(stats.totalStorageBytes),
          totalComputeMinutes: BigInt(Math.round(stats.totalComputeMinutes)),
          recentBuilds: stats.recentBuilds.map((build) => presentJob(build, tier)),
        };
      }),
  };
}

/** What the log holds now, without waiting for more. */
async function* pages(
  { builds }: ApiContext,
  tenant: TenantRef,
  id: ReturnType<typeof parseBuildId>,
  signal: AbortSignal,
): AsyncGenerator<readonly LogEntry[]> {
  for (let from = 0; ; ) {
    const { entries } = await builds.readLog(tenant, id, { signal, from, limit: LOG_PAGE });
    if (entries.length === 0) return;
    yield entries;
    from = (entries.at(-1)?.n ?? from) + 1;
  }
}

/** Both databases hold milliseconds; a timestamp may be far beyond what these can say. */
function timeOf(wire: Timestamp, field: string): number {
  const ms = timestampMs(wire);
  if (ms >= 0 && ms <= LAST_TIME_MS) return ms;
  throw new BuilderdError(
    'api.invalid',
    `Cannot sum up builds: ${field} must be from 1970 to 9999`,
  );
}

function knownState(wire: BuildState) {
  const state = stateOf(wire);
  if (state !== undefined) return state;
  throw new BuilderdError('api.invalid', 'Cannot list builds: state_filter holds an unknown state');
}

function idempotencyKeyOf({ headers }: FastifyRequest): { idempotencyKey?: string } {
  const key = headers['idempotency-key'];
  if (key === undefined) return {};
  if (typeof key === 'string' && IDEMPOTENCY_KEY.test(key)) return { idempotencyKey: key };
  throw new BuilderdError(
    'api.invalid',
    'Cannot use Idempotency-Key: want 1 to 255 visible characters',
  );
}
