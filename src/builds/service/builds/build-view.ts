import { ERRORS, type ErrorCode } from '../../../core/error-catalogue.ts';
import { BuilderdError } from '../../../core/errors.ts';
import type { BuildRecord } from '../../../store/builds/build-record.ts';
import { artifactsOf, type StepRecord, stepsOf } from '../../../store/builds/build-parts.ts';
import { readQueueFacts } from '../../../store/builds/queue-facts.ts';
import type { Db } from '../../../store/database.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import { parseBuildSpec } from '../../parse-build-spec.ts';
import { parseBuildMetrics, parseImageFacts, parseIsolationFacts } from '../../stored-facts.ts';
import type { TenantRef } from '../caller.ts';
import type { BuildView, StepView } from '../views.ts';
import { explainWait } from './explain-wait.ts';

/** Everything that callers see of these builds, with one query for each kind of part. */
export async function viewBuilds(
  db: Db,
  tenant: TenantRef,
  builds: readonly BuildRecord[],
): Promise<readonly BuildView[]> {
  const ids = builds.map(({ id }) => id);
  const artifacts = await artifactsOf(db, ids);
  const steps = await stepsOf(db, ids);
  const waits = await explainWaits(db, tenant, builds);
  return builds.map((build) => ({
    ...plainView(tenant, build),
    artifacts: artifacts.get(build.id) ?? [],
    steps: (steps.get(build.id) ?? []).map(viewStep),
    ...given({ waiting: waits.get(build.id) }),
  }));
}

export async function viewBuild(db: Db, tenant: TenantRef, build: BuildRecord): Promise<BuildView> {
  const [view] = await viewBuilds(db, tenant, [build]);
  if (view === undefined) throw new BuilderdError('internal', 'Cannot show the build');
  return view;
}

async function explainWaits(
  db: Db,
  { id }: TenantRef,
  builds: readonly BuildRecord[],
): Promise<ReadonlyMap<string, BuildView['waiting']>> {
  const waiting = builds.filter(({ state }) => state === 'pending');
  if (waiting.length === 0) return new Map();
  const tenant = await findTenantById(db, id);
  if (tenant === undefined) return new Map();
  const facts = await readQueueFacts(
    db,
    id,
    waiting.map((build) => build.id),
  );
  return new Map(waiting.map((build) => [build.id, explainWait(build, tenant, facts)]));
}

function plainView(
  tenant: TenantRef,
  build: BuildRecord,
): Omit<BuildView, 'artifacts' | 'steps' | 'waiting'> {
  const { sourceReference, sourceDigest } = build;
  return {
    id: build.id,
    tenant: tenant.name,
    state: build.state,
    name: build.name,
    labels: build.labels,
    priority: build.priority,
    spec: parseBuildSpec(build.request, 'internal'),
    createdAt: build.createdAt,
    timeoutMs: build.timeoutMs,
    attempt: build.attempt,
    cancelRequested: build.cancelRequestedAt !== undefined,
    progressPercent: build.progress,
    currentStep: build.currentStep,
    version: build.version,
    ...given({
      wireConfig: build.wireConfig,
      startedAt: build.startedAt,
      finishedAt: build.finishedAt,
      deadlineAt: build.deadlineAt,
      error: viewError(build),
      source:
        sourceReference === undefined || sourceDigest === undefined
          ? undefined
          : { reference: sourceReference, digest: sourceDigest },
      image: build.image === undefined ? undefined : parseImageFacts(build.image),
      metrics: build.metrics === undefined ? undefined : parseBuildMetrics(build.metrics),
      isolation: build.isolation === undefined ? undefined : parseIsolationFacts(build.isolation),
    }),
  };
}

/** A code that this version does not know was written by a newer one. */
function viewError({ errorCode, errorMessage }: BuildRecord): BuildView['error'] {
  if (errorCode === undefined) return undefined;
  const code: ErrorCode = isErrorCode(errorCode) ? errorCode : 'internal';
  const { fault, hint } = ERRORS[code];
  return { code, message: errorMessage ?? errorCode, fault, hint };
}

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text);
}

function viewStep({ finishedAt, outcome, ...step }: StepRecord): StepView {
  return { ...step, ...given({ finishedAt, outcome }) };
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Unset is absent, not undefined. */
function given<T extends object>(fields: T): Given<T> {
  const set: Given<T> = {};
  for (const key in fields) {
    const value = fields[key];
    // Only fields of T are left, without those that were undefined.
    if (value !== undefined) set[key] = value as Given<T>[typeof key];
  }
  return set;
}
