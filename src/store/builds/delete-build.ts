import { isTerminal } from '../../core/build-state.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { cancelBuild } from './cancel-build.ts';
import { lockBuild } from './find-build.ts';

/** `running`: refused, nothing changed. `stopping`: out of sight, its executor is told to stop. */
export type DeleteOutcome = 'deleted' | 'stopping' | 'running';

/**
 * Takes a build out of sight: from here on the tenant has none with this id. Its rows and files go
 * later. One that waits is cancelled; one that runs too, but only with `force`. Undefined when
 * there is none. The caller rings `control` after `stopping`.
 */
export async function deleteBuild(
  tx: Db,
  tenantId: TenantId,
  id: BuildId,
  { force }: { readonly force: boolean },
): Promise<DeleteOutcome | undefined> {
  const build = await lockBuild(tx, tenantId, id);
  if (build === undefined) return undefined;
  const runs = !isTerminal(build.state) && build.state !== 'pending';
  if (runs && !force) return 'running';
  await cancelBuild(tx, tenantId, id);
  await tx.k
    .updateTable('builds')
    .set((eb) => ({
      deleted_at: tx.now,
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .execute();
  await appendEvent(tx, {
    tenantId,
    buildId: id,
    type: 'build.deleted',
    data: { state: build.state },
  });
  return runs ? 'stopping' : 'deleted';
}
