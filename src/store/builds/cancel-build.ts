import { isTerminal } from '../../core/build-state.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { addUsage } from '../usage/add-usage.ts';
import type { BuildRecord } from './build-record.ts';
import { lockBuild } from './find-build.ts';

/**
 * `cancelled`: it waited and is over now. `requested`: its executor is told. `noted`: it was before.
 * `over`: it had ended already, nothing changed.
 */
export type CancelOutcome = 'cancelled' | 'requested' | 'noted' | 'over';

/**
 * Ends a build that waits, or notes the wish for its executor. A repeat changes nothing. Undefined
 * when the tenant has no such build. The caller rings `queue` after `cancelled`, `control` after
 * `requested`.
 */
export async function cancelBuild(
  tx: Db,
  tenantId: TenantId,
  id: BuildId,
): Promise<CancelOutcome | undefined> {
  const build = await lockBuild(tx, tenantId, id);
  if (build === undefined) return undefined;
  if (isTerminal(build.state)) return 'over';
  if (build.state === 'pending') {
    await endWaiting(tx, build);
    return 'cancelled';
  }
  if (build.cancelRequestedAt !== undefined) return 'noted';
  const { numUpdatedRows } = await tx.k
    .updateTable('builds')
    .set((eb) => ({
      cancel_requested_at: tx.now,
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', id)
    .where('state', '=', build.state)
    .executeTakeFirst();
  assertOne(numUpdatedRows);
  return 'requested';
}

/** No executor holds it: its row is ours to end. The lock keeps a claim from coming between. */
async function endWaiting(tx: Db, { id, tenantId, attempt }: BuildRecord): Promise<void> {
  const { numUpdatedRows } = await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: 'cancelled',
      finished_at: tx.now,
      cancel_requested_at: eb.fn.coalesce('cancel_requested_at', tx.now),
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', id)
    .where('state', '=', 'pending')
    .executeTakeFirst();
  assertOne(numUpdatedRows);
  await tx.k.deleteFrom('build_secrets').where('build_id', '=', id).execute();
  await addUsage(tx, tenantId, { buildsCancelled: 1 });
  await appendEvent(tx, {
    tenantId,
    buildId: id,
    type: 'build.cancelled',
    data: { state: 'cancelled', attempt },
  });
}

function assertOne(rows: bigint): void {
  if (rows === 1n) return;
  throw new BuilderdError('api.conflict', 'Cannot cancel the build: its state changed meanwhile');
}
