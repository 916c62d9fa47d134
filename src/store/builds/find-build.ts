import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { PreparedQuery } from '../prepared-query.ts';
import { type BuildRecord, parseBuildRow } from './build-record.ts';

/** A build of this tenant. */
export async function findBuild(
  db: Db,
  tenantId: TenantId,
  id: BuildId,
): Promise<BuildRecord | undefined> {
  const [row] = await ONE_BUILD.run(db, { id, tenantId });
  return row === undefined ? undefined : parseBuildRow(row);
}

const ONE_BUILD = new PreparedQuery<{ id: BuildId; tenantId: TenantId }>((k, value) =>
  ownBuild(k, value('tenantId'), value('id')),
);

/**
 * A build of this tenant that nobody else changes until the transaction ends. Rows are locked in
 * the order of the queue: build, then tenant (events), so that two never wait for each other.
 */
export async function lockBuild(
  tx: Db,
  tenantId: TenantId,
  id: BuildId,
): Promise<BuildRecord | undefined> {
  const query = ownBuild(tx.k, tenantId, id);
  // SQLite's transactions are alone from their first statement on.
  const row = await (tx.dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst();
  return row === undefined ? undefined : parseBuildRow({ ...row });
}

const ownBuild = (k: Db['k'], tenantId: TenantId, id: BuildId) =>
  k
    .selectFrom('builds')
    .selectAll()
    .where('id', '=', id)
    .where('tenant_id', '=', tenantId)
    .where('deleted_at', 'is', null);
