import { sql } from 'kysely';
import { parseTenantId, parseTenantName, type TenantId, type TenantName } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { readInteger, readText } from '../row-values.ts';
import { effectiveQuotas } from '../tenants/effective-quotas.ts';

/** What one tenant keeps. */
export interface TenantStorage {
  readonly tenantId: TenantId;
  readonly tenant: TenantName;
  readonly blobs: number;
  /** Of the plain bytes, each blob once: what the quota counts. */
  readonly sizeBytes: number;
  /** In the store. */
  readonly storedBytes: number;
  readonly encryptedBlobs: number;
  readonly damagedBlobs: number;
  /** In the store still, though nobody can reach it: goes when its grace period is over. */
  readonly condemnedBytes: number;
  readonly limitBytes: number;
}

/** Tenants with anything in the store, the largest first. */
export async function storageByTenant(
  db: Db,
  { defaults = {} }: { readonly defaults?: Partial<Quotas> } = {},
): Promise<readonly TenantStorage[]> {
  const sum = (what: ReturnType<typeof sql<number>>) => sql`coalesce(sum(${what}), 0)`;
  const kept = db.k
    .selectFrom('blobs')
    .select((eb) => [
      'tenant_id',
      eb.fn.countAll().as('blobs'),
      sum(sql<number>`size_bytes`).as('size'),
      sum(sql<number>`stored_bytes`).as('stored'),
      sum(sql<number>`case when data_key_id is null then 0 else 1 end`).as('encrypted'),
      sum(sql<number>`case when state = 'present' then 0 else 1 end`).as('damaged'),
    ])
    .groupBy('tenant_id')
    .as('kept');
  const condemned = db.k
    .selectFrom('condemned_blobs')
    .select(['tenant_id', sum(sql<number>`stored_bytes`).as('bytes')])
    .groupBy('tenant_id')
    .as('condemned');
  const rows = await db.k
    .selectFrom('tenants')
    .leftJoin(kept, 'kept.tenant_id', 'tenants.id')
    .leftJoin(condemned, 'condemned.tenant_id', 'tenants.id')
    .select([
      'tenants.id',
      'tenants.name',
      'tenants.tier',
      'tenants.overrides',
      'kept.blobs',
      'kept.size',
      'kept.stored',
      'kept.encrypted',
      'kept.damaged',
      'condemned.bytes',
    ])
    .where((eb) => eb.or([eb('kept.blobs', 'is not', null), eb('condemned.bytes', 'is not', null)]))
    .execute();
  return rows
    .map((row) => ({
      tenantId: parseTenantId(readText(row.id, 'tenants.id')),
      tenant: parseTenantName(readText(row.name, 'tenants.name')),
      blobs: readInteger(row.blobs ?? 0, 'count'),
      sizeBytes: readInteger(row.size ?? 0, 'sum'),
      storedBytes: readInteger(row.stored ?? 0, 'sum'),
      encryptedBlobs: readInteger(row.encrypted ?? 0, 'sum'),
      damagedBlobs: readInteger(row.damaged ?? 0, 'sum'),
      condemnedBytes: readInteger(row.bytes ?? 0, 'sum'),
      limitBytes: effectiveQuotas(row, defaults).maxStorageBytes,
    }))
    .toSorted((a, b) => b.storedBytes - a.storedBytes);
}
