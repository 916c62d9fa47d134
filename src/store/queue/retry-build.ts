import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { addUsage } from '../usage/add-usage.ts';
import { type AttemptOutcome, closeAttempt, countFailedAttempts } from './attempt-rows.ts';
import type { Fenced } from './claim.ts';
import { type EarlyEnd, RELEASED, writeEnd } from './end-build.ts';
import { requireMove } from './enter-state.ts';
import { type HeldBuild, holdBuild } from './hold-build.ts';
import { closeStep } from './step-rows.ts';

/** A build that fails so often by faults that are not its own is parked as failed. */
export const MAX_ATTEMPTS = 3;

export interface Retry {
  readonly delayMs: number;
  readonly error: BuilderdError;
  /** False when the executor stops in order: the build is not to blame. */
  readonly counted?: boolean;
}

/** What became of the build. */
export type RetryOutcome = 'pending' | 'failed' | 'cancelled';

/**
 * Gives a held build back to the queue. It ends instead as cancelled when somebody asked for that,
 * and as failed with the last error after three attempts or when its time would be up before the
 * next. Throws `build.lost`.
 */
export async function retryBuild(tx: Db, fenced: Fenced, retry: Retry): Promise<RetryOutcome> {
  const held = await holdBuild(tx, fenced);
  const outcome = retry.counted === false ? 'handed back' : 'retried';
  return await releaseBuild(tx, { fenced, held, retry, outcome });
}

/** For a build whose row is locked by the caller. */
export async function releaseBuild(
  tx: Db,
  {
    fenced,
    held,
    retry,
    outcome,
  }: {
    readonly fenced: Fenced;
    readonly held: HeldBuild;
    readonly retry: Retry;
    readonly outcome: AttemptOutcome;
  },
): Promise<RetryOutcome> {
  const durationMs = await closeAttempt(tx, fenced, { outcome, error: retry.error });
  const end = await earlyEnd(tx, fenced, held, retry);
  if (end !== undefined) {
    await writeEnd(tx, { fenced, held, durationMs, end });
    return end.state;
  }
  requireMove(held.state, 'pending');
  const { buildId, attempt } = fenced;
  await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: 'pending',
      ...RELEASED,
      not_before: eb(tx.now, '+', Math.max(0, Math.round(retry.delayMs))),
      progress: 0,
      current_step: '',
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', buildId)
    .execute();
  await closeStep(tx, fenced, outcome);
  await addUsage(tx, held.tenantId, { buildMs: durationMs });
  await appendEvent(tx, {
    tenantId: held.tenantId,
    buildId,
    type: 'build.state',
    data: { state: 'pending', attempt, code: retry.error.code },
  });
  return 'pending';
}

async function earlyEnd(
  tx: Db,
  { buildId }: Fenced,
  held: HeldBuild,
  { error, delayMs }: Retry,
): Promise<EarlyEnd | undefined> {
  if (held.cancelRequested) return { state: 'cancelled' };
  const failed = await countFailedAttempts(tx, buildId);
  if (failed >= MAX_ATTEMPTS) return parked(error, `it was tried ${failed} times`);
  if (held.deadlineAt !== undefined && held.deadlineAt <= held.now + delayMs) {
    return parked(error, 'its time is up before it could be tried again');
  }
  return undefined;
}

function parked(error: BuilderdError, fact: string): EarlyEnd {
  const message = `Cannot finish the build: ${fact}; the last time: ${error.message}`;
  return { state: 'failed', error: new BuilderdError(error.code, message, { cause: error }) };
}
