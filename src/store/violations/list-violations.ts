import type { TenantId } from '../../core/ids.ts';
import { QUOTA_TYPES, type QuotaType } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { readInteger, readOneOf, readText } from '../row-values.ts';

export interface ViolationRecord {
  readonly quotaType: QuotaType;
  readonly currentValue: number;
  readonly limitValue: number;
  readonly message: string;
  readonly at: number;
}

/** Newest first. */
export async function listViolations(
  db: Db,
  tenantId: TenantId,
  { limit }: { readonly limit: number },
): Promise<readonly ViolationRecord[]> {
  const rows = await db.k
    .selectFrom('quota_violations')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
  return rows.map((row) => ({
    quotaType: readOneOf(QUOTA_TYPES, row.quota_type, 'quota_violations.quota_type'),
    currentValue: readInteger(row.current_value, 'quota_violations.current_value'),
    limitValue: readInteger(row.limit_value, 'quota_violations.limit_value'),
    message: readText(row.message, 'quota_violations.message'),
    at: readInteger(row.created_at, 'quota_violations.created_at'),
  }));
}
