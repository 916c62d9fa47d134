import { type BuildId, parseBuildId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readText } from '../row-values.ts';

export interface IdempotencyKey {
  readonly buildId: BuildId;
  readonly requestHash: string;
}

export async function findIdempotencyKey(
  tx: Db,
  tenantId: TenantId,
  key: string,
): Promise<IdempotencyKey | undefined> {
  const row = await tx.k
    .selectFrom('idempotency_keys')
    .select(['build_id', 'request_hash'])
    .where('tenant_id', '=', tenantId)
    .where('key', '=', key)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    buildId: parseBuildId(readText(row.build_id, 'idempotency_keys.build_id')),
    requestHash: readText(row.request_hash, 'idempotency_keys.request_hash'),
  };
}

/** In the transaction that inserts the build: the key and the build are there together or not. */
export async function insertIdempotencyKey(
  tx: Db,
  tenantId: TenantId,
  key: string,
  { buildId, requestHash }: IdempotencyKey,
): Promise<void> {
  await tx.k
    .insertInto('idempotency_keys')
    .values({
      tenant_id: tenantId,
      key,
      request_hash: requestHash,
      build_id: buildId,
      created_at: tx.now,
    })
    .execute();
}
