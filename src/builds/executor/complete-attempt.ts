import { BuilderdError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { insertArtifacts, type NewArtifact } from '../../store/artifacts/artifact-rows.ts';
import type { Db } from '../../store/database.ts';
import { trimSegments } from '../../store/logs/trim-segments.ts';
import { completeBuild } from '../../store/queue/complete-build.ts';
import { findTenantById } from '../../store/tenants/find-tenant.ts';
import type { AcquiredImage } from '../ports.ts';
import type { ConvertedBuild } from '../worker/converter.ts';
import type { Attempt } from './attempt.ts';
import type { Stage } from '../metrics/metrics.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import type { WorkState } from './attempt-progress.ts';
import { buildMetrics } from './build-metrics.ts';
import { DONE, persist } from './persist.ts';
import type { PreparedAttempt } from './prepare-attempt.ts';
import { storeLog } from './store-log.ts';

const STAGES = [
  ['pulling', 'pull'],
  ['extracting', 'extract'],
  ['building', 'build'],
  ['optimizing', 'optimize'],
] as const satisfies readonly (readonly [WorkState, Stage])[];

export interface AttemptResults {
  readonly image: AcquiredImage;
  readonly converted: ConvertedBuild;
  /** Committed to the store; named by no row yet. */
  readonly artifacts: readonly NewArtifact[];
}

/**
 * The one transaction by which a build becomes completed: its row, the names of its artifacts, the
 * bytes that its tenant now has, the event. It holds only under our claim; a second attempt, or we
 * after a pause, find zero rows and change nothing. Only after it anybody is told.
 */
export async function completeAttempt(
  { attempt, journal }: PreparedAttempt,
  { image, converted, artifacts }: AttemptResults,
  deps: AttemptDeps,
): Promise<void> {
  const { claim, fenced } = attempt;
  const { database, failpoints, metrics } = deps;
  journal.note('info', 'service', `Stored ${artifacts.length} artifacts`);
  await journal.closeLines({ signal: attempt.signal });
  const { tenantId, buildId } = claim;
  const encrypt = deps.encryptAll || claim.quotas.encryption;
  const log = await storeLog(fenced, { tenantId, encrypt }, deps, attempt);
  journal.progress.end();
  const all = [...artifacts, log];
  const facts = {
    image: converted.image,
    metrics: buildMetrics(image, converted, journal.progress),
    isolation: converted.isolation,
    sourceReference: image.reference,
    sourceDigest: image.target.digest,
    writtenBytes: all.reduce((sum, { blob }) => sum + blob.sizeBytes, 0),
  };
  attempt.requireHeld();
  await failpoints.hit('attempt.completing');
  await persist(database, attempt, {
    body: async (tx) => {
      await completeBuild(tx, fenced, facts);
      await insertArtifacts(tx, { tenantId, buildId, artifacts: all });
      await requireStorage(tx, attempt);
      await trimSegments(tx, buildId);
    },
    landed: (state) => (state === 'completed' ? DONE : undefined),
  });
  await failpoints.hit('attempt.completed');
  for (const topic of ['events', 'logs', 'queue'] as const) database.ring(topic);
  metrics.artifactWritten(facts.writtenBytes);
  for (const [state, stage] of STAGES) {
    metrics.stageFinished(stage, journal.progress.durationMs(state));
  }
}

/** Checked where it counts: builds of a tenant that end together cannot pass it together. */
async function requireStorage(tx: Db, { claim }: Attempt): Promise<void> {
  const tenant = await findTenantById(tx, claim.tenantId);
  if (tenant === undefined)
    throw new BuilderdError('internal', 'Cannot find the tenant of a build');
  const { storageBytes, quotas } = tenant;
  if (storageBytes <= quotas.maxStorageBytes) return;
  throw new BuilderdError(
    'quota.exceeded',
    `Cannot keep the artifacts: with them the tenant has ${formatBytes(storageBytes)} of ${formatBytes(quotas.maxStorageBytes)}`,
    { details: { quotaType: 'storage', current: storageBytes, limit: quotas.maxStorageBytes } },
  );
}
