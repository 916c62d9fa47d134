import type { TenantId, TenantName } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { parseTenantRow, type TenantRecord } from './tenant-record.ts';

export async function findTenant(db: Db, name: TenantName): Promise<TenantRecord | undefined> {
  const row = await db.k
    .selectFrom('tenants')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirst();
  return row === undefined ? undefined : parseTenantRow({ ...row });
}

/** With `lock`, other writers of this tenant wait until the transaction ends. */
export async function findTenantById(
  db: Db,
  id: TenantId,
  { lock = false }: { readonly lock?: boolean } = {},
): Promise<TenantRecord | undefined> {
  const query = db.k.selectFrom('tenants').selectAll().where('id', '=', id);
  // SQLite's transactions are alone from their first statement on.
  const row = await (lock && db.dialect === 'postgres'
    ? query.forUpdate()
    : query
  ).executeTakeFirst();
  return row === undefined ? undefined : parseTenantRow({ ...row });
}
