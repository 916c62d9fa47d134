import type { TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';

/** Takes the tenant's builds out of sight that ended before the last `days` days. Gives their number. */
export async function expireBuilds(
  tx: Db,
  tenantId: TenantId,
  { days, limit }: { readonly days: number; readonly limit: number },
): Promise<number> {
  const keepMs = days * 86_400_000;
  const rows = await tx.k
    .selectFrom('builds')
    .select(['id', 'state'])
    .where('tenant_id', '=', tenantId)
    .where('deleted_at', 'is', null)
    .where('finished_at', 'is not', null)
    .where((eb) => eb(eb('finished_at', '+', keepMs), '<', tx.now))
    .orderBy('id')
    .limit(limit)
    .execute();
  for (const { id, state } of rows) {
    await tx.k
      .updateTable('builds')
      .set((eb) => ({ deleted_at: tx.now, updated_at: tx.now, version: eb('version', '+', 1) }))
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .execute();
    await appendEvent(tx, { tenantId, buildId: id, type: 'build.deleted', data: { state } });
  }
  return rows.length;
}
