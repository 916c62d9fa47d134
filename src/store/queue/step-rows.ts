import type { ActiveState } from '../../core/build-state.ts';
import type { Db } from '../database.ts';
import type { Fenced } from './claim.ts';

type Place = Pick<Fenced, 'buildId' | 'attempt'>;

/** Begins the next step of an attempt; the one before ends as `done`. */
export async function openStep(
  tx: Db,
  { buildId, attempt }: Place,
  { state, name }: { readonly state: ActiveState; readonly name: string },
): Promise<void> {
  await closeStep(tx, { buildId, attempt }, 'done');
  await tx.k
    .insertInto('steps')
    .values((eb) => ({
      build_id: buildId,
      attempt,
      seq: eb
        .selectFrom('steps')
        .select((inner) =>
          inner(inner.fn.coalesce(inner.fn.max('seq'), inner.lit(0)), '+', 1).as('seq'),
        )
        .where('build_id', '=', buildId)
        .where('attempt', '=', attempt),
      state,
      name,
      started_at: tx.now,
      finished_at: null,
      outcome: null,
    }))
    .execute();
}

/** Ends the step that is open, if one is. */
export async function closeStep(
  tx: Db,
  { buildId, attempt }: Place,
  outcome: string,
): Promise<void> {
  await tx.k
    .updateTable('steps')
    .set({ finished_at: tx.now, outcome })
    .where('build_id', '=', buildId)
    .where('attempt', '=', attempt)
    .where('finished_at', 'is', null)
    .execute();
}
