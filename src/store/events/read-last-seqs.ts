import { parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';

/** PostgreSQL and SQLite both take more parameters than this. */
const BATCH = 500;

/** The last number that was given to an event of each of these tenants. */
export async function readLastSeqs(
  db: Db,
  tenantIds: readonly TenantId[],
): Promise<ReadonlyMap<TenantId, number>> {
  const seqs = new Map<TenantId, number>();
  for (let start = 0; start < tenantIds.length; start += BATCH) {
    const rows = await db.k
      .selectFrom('tenants')
      .select(['id', 'event_seq'])
      .where('id', 'in', tenantIds.slice(start, start + BATCH))
      .execute();
    for (const row of rows) {
      seqs.set(parseTenantId(row.id), readInteger(row.event_seq, 'tenants.event_seq'));
    }
  }
  return seqs;
}
