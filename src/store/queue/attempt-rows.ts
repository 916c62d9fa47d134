import type { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import type { Fenced } from './claim.ts';
import { storableText } from './storable-text.ts';

/**
 * How an attempt ended. `retried` and `lost` count against the build; `handed back` does not: the
 * executor stopped in order.
 */
export type AttemptOutcome =
  | 'completed'
  | 'failed'
  | 'cancelled'
  | 'retried'
  | 'lost'
  | 'handed back';

/** Gives how long the attempt ran, in milliseconds. */
export async function closeAttempt(
  tx: Db,
  { buildId, attempt }: Fenced,
  { outcome, error }: { readonly outcome: AttemptOutcome; readonly error?: BuilderdError },
): Promise<number> {
  const row = await tx.k
    .updateTable('attempts')
    .set({
      finished_at: tx.now,
      outcome,
      error_code: error?.code ?? null,
      error_message: error === undefined ? null : storableText(error.message),
    })
    .where('build_id', '=', buildId)
    .where('attempt', '=', attempt)
    .where('finished_at', 'is', null)
    .returning(['started_at', 'finished_at'])
    .executeTakeFirst();
  if (row === undefined) return 0;
  const startedAt = readInteger(row.started_at, 'attempts.started_at');
  return Math.max(0, readInteger(row.finished_at, 'attempts.finished_at') - startedAt);
}

/** Attempts of the build that failed by a fault of ours or vanished. */
export async function countFailedAttempts(tx: Db, buildId: string): Promise<number> {
  const { failed } = await tx.k
    .selectFrom('attempts')
    .select((eb) => eb.fn.countAll().as('failed'))
    .where('build_id', '=', buildId)
    .where('outcome', 'in', ['retried', 'lost'])
    .executeTakeFirstOrThrow();
  return readInteger(failed, 'count');
}
