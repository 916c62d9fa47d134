import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { addUsage } from '../usage/add-usage.ts';
import { closeAttempt } from './attempt-rows.ts';
import type { Fenced } from './claim.ts';
import { eraseSecrets, RELEASED } from './end-build.ts';
import { requireMove } from './enter-state.ts';
import { holdBuild } from './hold-build.ts';
import { closeStep } from './step-rows.ts';

/** JSON of the builds room, kept as it is, and what the tenant's day is charged. */
export interface CompletedFacts {
  readonly image: object;
  readonly metrics: object & { readonly cpuUs: number; readonly pulledBytes: number };
  readonly isolation: object;
  readonly sourceReference: string;
  readonly sourceDigest: string;
  readonly writtenBytes: number;
}

/**
 * The one way to `completed`, in the transaction that names the artifacts: both or neither. Throws
 * `build.lost` when the attempt was taken over or its lease has ended, even if nobody took over yet.
 */
export async function completeBuild(tx: Db, fenced: Fenced, facts: CompletedFacts): Promise<void> {
  const held = await holdBuild(tx, fenced, { liveLease: true });
  requireMove(held.state, 'completed');
  const { buildId, attempt } = fenced;
  await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: 'completed',
      ...RELEASED,
      finished_at: tx.now,
      progress: 100,
      image: JSON.stringify(facts.image),
      metrics: JSON.stringify(facts.metrics),
      isolation: JSON.stringify(facts.isolation),
      source_reference: facts.sourceReference,
      source_digest: facts.sourceDigest,
      error_code: null,
      error_message: null,
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', buildId)
    .execute();
  await closeStep(tx, fenced, 'done');
  const buildMs = await closeAttempt(tx, fenced, { outcome: 'completed' });
  await eraseSecrets(tx, buildId);
  await addUsage(tx, held.tenantId, {
    buildsCompleted: 1,
    buildMs,
    cpuUs: facts.metrics.cpuUs,
    pulledBytes: facts.metrics.pulledBytes,
    writtenBytes: facts.writtenBytes,
  });
  await appendEvent(tx, {
    tenantId: held.tenantId,
    buildId,
    type: 'build.completed',
    data: { state: 'completed', attempt },
  });
}
