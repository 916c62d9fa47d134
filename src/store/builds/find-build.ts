import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { type BuildRecord, parseBuildRow } from './build-record.ts';

/** A build of this tenant. With `lock`, its row stays as it is until the transaction ends. */
export async function findBuild(
  db: Db,
  tenantId: TenantId,
  id: BuildId,
  { lock = false }: { readonly lock?: boolean } = {},
): Promise<BuildRecord | undefined> {
  const query = db.k
    .selectFrom('builds')
    .selectAll()
    .where('id', '=', id)
    .where('tenant_id', '=', tenantId)
    .where('deleted_at', 'is', null);
  // SQLite's transactions are alone from their first statement on.
  const row = await (lock && db.dialect === 'postgres'
    ? query.forUpdate()
    : query
  ).executeTakeFirst();
  return row === undefined ? undefined : parseBuildRow({ ...row });
}
