import { isBuilderdError } from '../../core/errors.ts';
import { NO_TRACING, type Span, type SpanFields, type SpanName } from '../../core/tracing.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import type { AttemptOutcome } from './end-attempt.ts';

/** The span of one attempt, in the trace of the request that asked for the build. */
export function attemptSpan({ claim }: Attempt, { tracing = NO_TRACING }: AttemptDeps): Span {
  return tracing.span('attempt', {
    parent: claim.traceParent,
    fields: {
      'builderd.build_id': claim.buildId,
      'builderd.tenant': claim.tenantName,
      'builderd.attempt': claim.attempt,
    },
  });
}

export function noteOutcome(span: Span, outcome: AttemptOutcome): void {
  span.set({ 'builderd.state': outcome.kind });
  if (outcome.kind === 'failed' || outcome.kind === 'retried') span.fail(outcome.error);
}

/** The same deps, whose pull, conversion and commits have spans below the attempt's. */
export function traceSteps(deps: AttemptDeps, { traceParent }: Span): AttemptDeps {
  const { tracing, images, converter, artifacts } = deps;
  if (tracing === undefined || traceParent === undefined) return deps;
  const traced = async <T>(
    name: SpanName,
    work: (span: Span) => Promise<T>,
    fields: SpanFields = {},
  ): Promise<T> => {
    using span = tracing.span(name, { parent: traceParent, fields });
    try {
      return await work(span);
    } catch (reason) {
      if (!isBuilderdError(reason, 'build.cancelled')) span.fail(reason);
      throw reason;
    }
  };
  return {
    ...deps,
    images: {
      ping: (call) => images.ping(call),
      leases: (call) => images.leases(call),
      release: (lease, call) => images.release(lease, call),
      forgetUnused: (options) => images.forgetUnused(options),
      forAttempt(options) {
        const repository = images.forAttempt(options);
        return {
          acquire: (source, call) =>
            traced('pull', async (span) => {
              const image = await repository.acquire(source, call);
              span.set({ 'builderd.layers': image.layers.length });
              return image;
            }),
        };
      },
    },
    converter: {
      convert: (job, call) =>
        traced('convert', () => converter.convert(job, call), {
          'builderd.format': job.outputs.map(({ format }) => format).join(','),
        }),
    },
    artifacts: withCommit(artifacts, (staged, options) =>
      traced('commit', async (span) => {
        const blob = await artifacts.commit(staged, options);
        span.set({ 'builderd.bytes': blob.sizeBytes });
        return blob;
      }),
    ),
  };
}

/** A store keeps private fields, which a copy of its object would not reach: the rest is passed on. */
function withCommit(store: ArtifactStore, commit: ArtifactStore['commit']): ArtifactStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === 'commit') return commit;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
