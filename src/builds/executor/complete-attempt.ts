import { BuilderdError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { insertArtifacts, type NewArtifact } from '../../store/artifacts/artifact-rows.ts';
import { readReleasedBytes } from '../../store/artifacts/condemned-rows.ts';
import { requireNoted } from '../../store/artifacts/noted-copies.ts';
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
import { storeOwnLog } from './store-artifacts.ts';

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
  const log = await storeOwnLog(attempt, { database, artifacts: deps.artifacts, encrypt });
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
      await requireNoted(
        tx,
        tenantId,
        all.map(({ blob }) => blob),
      );
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
  const { quotas } = tenant;
  // Deleted bytes count until they are gone: else a disk could be filled by creating and deleting.
  const released = await readReleasedBytes(tx, claim.tenantId);
  const current = tenant.storageBytes + released;
  if (current <= quotas.maxStorageBytes) return;
  const going =
    released === 0 ? '' : `, ${formatBytes(released)} of it deleted and not yet removed`;
  throw new BuilderdError(
    'quota.exceeded',
    `Cannot keep the artifacts: with them the tenant has ${formatBytes(current)} of ${formatBytes(quotas.maxStorageBytes)}${going}`,
    { details: { quotaType: 'storage', current, limit: quotas.maxStorageBytes } },
  );
}
