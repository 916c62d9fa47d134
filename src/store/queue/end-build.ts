import type { ErrorCode } from '../../core/error-catalogue.ts';
import type { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { addUsage, type UsageCounts } from '../usage/add-usage.ts';
import { closeAttempt } from './attempt-rows.ts';
import type { Fenced } from './claim.ts';
import { requireMove } from './enter-state.ts';
import { holdBuild, type HeldBuild } from './hold-build.ts';
import { closeStep } from './step-rows.ts';
import { storableText } from './storable-text.ts';

export type EarlyEnd =
  | { readonly state: 'cancelled' }
  | { readonly state: 'failed'; readonly error: BuilderdError };

/** Ends a held build that is not completed. Throws `build.lost`, `internal` for an illegal move. */
export async function endBuild(tx: Db, fenced: Fenced, end: EarlyEnd): Promise<void> {
  const held = await holdBuild(tx, fenced);
  const durationMs = await closeAttempt(tx, fenced, {
    outcome: end.state,
    ...(end.state === 'failed' ? { error: end.error } : {}),
  });
  await writeEnd(tx, { fenced, held, durationMs, end });
}

/** For attempts that are closed already. */
export async function writeEnd(
  tx: Db,
  {
    fenced,
    held,
    durationMs,
    end,
  }: {
    readonly fenced: Fenced;
    readonly held: HeldBuild;
    readonly durationMs: number;
    readonly end: EarlyEnd;
  },
): Promise<void> {
  requireMove(held.state, end.state);
  const { buildId, attempt } = fenced;
  const error = end.state === 'failed' ? end.error : undefined;
  await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: end.state,
      ...RELEASED,
      finished_at: tx.now,
      error_code: error?.code ?? null,
      error_message: error === undefined ? null : storableText(error.message),
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', buildId)
    .execute();
  await closeStep(tx, fenced, end.state);
  await eraseSecrets(tx, buildId);
  const count: UsageCounts = end.state === 'failed' ? { buildsFailed: 1 } : { buildsCancelled: 1 };
  await addUsage(tx, held.tenantId, { ...count, buildMs: durationMs });
  await appendEvent(tx, {
    tenantId: held.tenantId,
    buildId,
    type: end.state === 'failed' ? 'build.failed' : 'build.cancelled',
    data: { state: end.state, attempt, ...codeOf(error) },
  });
}

/** What a build gives back when nobody holds it any more. */
export const RELEASED = { owner: null, lease_until: null, id_slot: null } as const;

/** No secret survives its build. */
export async function eraseSecrets(tx: Db, buildId: string): Promise<void> {
  await tx.k.deleteFrom('build_secrets').where('build_id', '=', buildId).execute();
}

function codeOf(error: BuilderdError | undefined): { readonly code?: ErrorCode } {
  return error === undefined ? {} : { code: error.code };
}
