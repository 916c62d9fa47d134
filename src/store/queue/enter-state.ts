import { type ActiveState, type BuildState, NEXT_STATES } from '../../core/build-state.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import type { Fenced } from './claim.ts';
import { holdBuild } from './hold-build.ts';
import { wholePercent } from './report-progress.ts';
import { openStep } from './step-rows.ts';

export interface StateEntry {
  readonly state: ActiveState;
  /** For people: what is done in this state. */
  readonly step: string;
  /** In percent. */
  readonly progress: number;
}

/**
 * Moves a held build to its next state, with the step and the event. A repeat changes nothing.
 * Throws `build.lost`; `internal` for a move that the table of states does not have.
 */
export async function enterState(tx: Db, fenced: Fenced, entry: StateEntry): Promise<void> {
  const held = await holdBuild(tx, fenced);
  if (held.state === entry.state) return;
  requireMove(held.state, entry.state);
  const { buildId, attempt } = fenced;
  await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: entry.state,
      current_step: entry.step,
      progress: Math.max(held.progress, wholePercent(entry.progress)),
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', buildId)
    .execute();
  await openStep(tx, fenced, { state: entry.state, name: entry.step });
  await appendEvent(tx, {
    tenantId: held.tenantId,
    buildId,
    type: 'build.state',
    data: { state: entry.state, attempt },
  });
}

export function requireMove(from: BuildState, to: BuildState): void {
  const legal: readonly BuildState[] = NEXT_STATES[from];
  if (legal.includes(to)) return;
  throw new BuilderdError('internal', `Cannot move a build from ${from} to ${to}`);
}
