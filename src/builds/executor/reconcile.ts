import type { Log } from '../../core/log.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import { sweepCopies } from '../../store/artifacts/noted-copies.ts';
import { sweepStaging } from '../../store/artifacts/sweep-staging.ts';
import type { Database, Db } from '../../store/database.ts';
import type { ExecutorIdentity } from '../../store/executor-identity.ts';
import { pruneExecutors, removeExecutor } from '../../store/executors.ts';
import { reapExpired } from '../../store/queue/reap-expired.ts';
import type { OrphanKind } from '../metrics/metrics.ts';
import type { AttemptImages, AttemptKey } from './attempt-images.ts';
import { purgeDeleted } from './housekeeping.ts';
import { LogMover } from './store-log.ts';
import { sweepScratch } from './sweep-scratch.ts';

export interface ReconcilerOptions {
  readonly database: Database;
  readonly identity: ExecutorIdentity;
  readonly images: AttemptImages;
  readonly artifacts: ArtifactStore;
  /** Where attempts have their scratch files. */
  readonly scratchDir: string;
  readonly log: Log;
  /** After the end of a lease, for a clock that is read while it ends. */
  readonly graceMs: number;
  /** ENABLE_ENCRYPTION, as it is now. */
  readonly isEncrypting?: () => boolean;
}

const FORGOTTEN_AFTER_MS = 24 * 3_600_000;

type Attempted = Pick<AttemptKey, 'buildId' | 'attempt'>;

export interface ReconcileCall {
  /** Whether this process works on the attempt now. */
  readonly isRunning: (attempt: Attempted) => boolean;
  readonly signal: AbortSignal;
}

export interface ReconcileReport {
  readonly durationMs: number;
  /** What was found without an owner, and taken care of. */
  readonly orphans: Partial<Record<OrphanKind, number>>;
  /** Parts that could not be looked after this time. */
  readonly faults: number;
}

export interface Reconciler {
  /** Never throws; a second run right after the first finds nothing. */
  run(call: ReconcileCall): Promise<ReconcileReport>;
}

/**
 * Finds what attempts left behind that nobody works on any more, and gives it back: claims, leases,
 * staged files; then what builds that are over left in the database. What a build holds is named
 * after its attempt, so the database can always tell.
 */
export function createReconciler(options: ReconcilerOptions): Reconciler {
  const logs = new LogMover(options, options.isEncrypting ?? (() => false));
  return {
    async run(call) {
      const started = performance.now();
      const orphans: Partial<Record<OrphanKind, number>> = {};
      let faults = 0;
      const attend = async (step: string, work: () => Promise<number>): Promise<number> => {
        try {
          return await work();
        } catch (err) {
          faults += 1;
          options.log.warn({ err, step }, 'Cannot look for left-overs');
          return 0;
        }
      };
      const look = async (kind: OrphanKind, work: () => Promise<number>): Promise<void> => {
        const found = await attend(kind, work);
        orphans[kind] = found;
        if (found > 0) options.log.info({ step: kind, count: found }, 'Left-overs cleaned up');
      };
      // Claims first: what they held is then free to be given back.
      await look('build', () => takeBack(options, call));
      await look('lease', () => releaseLeases(options, call));
      await look('staging', async () => {
        const { database, artifacts } = options;
        return (await sweepStaging(database, artifacts, call)).length;
      });
      await look('scratch', () => sweepScratch(options.scratchDir, call));
      await look('blob', () => sweepCopies(options.database, options.artifacts, call));
      await attend('deleted builds', () => purgeDeleted(options, call));
      await attend('logs', () => logs.run(call));
      return { durationMs: performance.now() - started, orphans, faults };
    },
  };
}

/**
 * Takes builds from executors that are gone: from those before us on this data directory at once,
 * for they are dead; from others when their leases have ended.
 */
async function takeBack(
  { database, identity, graceMs, log }: ReconcilerOptions,
  { signal }: ReconcileCall,
): Promise<number> {
  const reaped = await reapExpired(database, {
    graceMs,
    deadOwners: identity.earlier,
    onBadBuild: ({ id: buildId, reason: err }) => {
      log.error({ buildId, err }, 'Cannot read a build: it has failed');
    },
    signal,
  });
  if (reaped.length > 0) return reaped.length;
  // None was left of the earlier ones: nothing is held under their names any more.
  if (identity.earlier.length > 0) {
    for (const id of identity.earlier) await removeExecutor(database, id);
    identity.forgetEarlier();
  }
  await pruneExecutors(database, { silentMs: FORGOTTEN_AFTER_MS });
  return 0;
}

async function releaseLeases(
  { database, images, log }: ReconcilerOptions,
  { isRunning, signal }: ReconcileCall,
): Promise<number> {
  let released = 0;
  for (const lease of await images.leases({ signal })) {
    if (isRunning(lease) || (await isHeld(database, lease))) continue;
    try {
      await images.release(lease, { signal });
      released += 1;
    } catch (err) {
      // One lease that does not go must not keep the others.
      const { buildId, attempt, tenantId } = lease;
      log.warn({ buildId, tenantId, attempt, err }, 'Cannot release a lease');
    }
  }
  return released;
}

/** Whether some executor, of whatever host, still works on exactly this attempt. */
async function isHeld(db: Db, { buildId, attempt }: Attempted): Promise<boolean> {
  const row = await db.k
    .selectFrom('builds')
    .select('id')
    .where('id', '=', buildId)
    .where('attempt', '=', attempt)
    .where('owner', 'is not', null)
    .executeTakeFirst();
  return row !== undefined;
}
