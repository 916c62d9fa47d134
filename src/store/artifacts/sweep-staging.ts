import { ACTIVE_STATES } from '../../core/build-state.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { Db } from '../database.ts';
import type { ArtifactStore, StagedAttempt } from './artifact-store.ts';

/**
 * Removes what dead attempts staged: those whose build is gone, over, or in a later attempt. An
 * attempt that a row still shows as held is never touched, even if its lease has run out: whoever
 * takes the build over raises the attempt first. Gives what was (or with `dryRun` would be) removed.
 */
export async function sweepStaging(
  db: Db,
  store: ArtifactStore,
  { dryRun = false, signal }: { readonly dryRun?: boolean; readonly signal: AbortSignal },
): Promise<readonly StagedAttempt[]> {
  const dead: StagedAttempt[] = [];
  for (const staged of await store.stagedAttempts({ signal })) {
    throwIfAborted(signal, 'remove staged artifacts');
    // Staged before it was asked: a claim commits its attempt before the attempt stages anything.
    if (await isHeld(db, staged)) continue;
    if (!dryRun) await store.discardAttempt(staged, { signal });
    dead.push(staged);
  }
  return dead;
}

/** Whether an executor, of whatever host, still works on exactly this attempt. */
export async function isHeld(db: Db, { buildId, attempt }: StagedAttempt): Promise<boolean> {
  const row = await db.k
    .selectFrom('builds')
    .select('id')
    .where('id', '=', buildId)
    .where('attempt', '=', attempt)
    .where('state', 'in', ACTIVE_STATES)
    .where('owner', 'is not', null)
    .executeTakeFirst();
  return row !== undefined;
}
