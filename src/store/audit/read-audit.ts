import { parseTenantName, type TenantId, type TenantName } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger, readJson, readOptionalText, readText } from '../row-values.ts';

export interface AuditRecord {
  readonly at: number;
  readonly actor: string;
  readonly tenant?: TenantName;
  readonly action: string;
  readonly target: string;
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
  readonly requestId: string;
  readonly address: string;
}

export interface AuditQuery {
  /** Without: of all tenants, and of none. */
  readonly tenantId?: TenantId;
  /** Only rows older than this time. */
  readonly before?: number;
  readonly limit: number;
}

/** Rows of one millisecond that a page may exceed its limit by. */
const MAX_TIES = 500;

/**
 * Newest first. A page is never cut within one millisecond: `before` with the time of its last row
 * gives the next page without a loss.
 */
export async function readAudit(db: Db, query: AuditQuery): Promise<readonly AuditRecord[]> {
  const { tenantId, before, limit } = query;
  const rows = await selectAudit(db, tenantId)
    .$if(before !== undefined, (select) => select.where('audit.at', '<', before ?? 0))
    .limit(limit)
    .execute();
  const last = rows.at(-1);
  if (last === undefined || rows.length < limit) return rows.map(parseAuditRow);
  const ties = await selectAudit(db, tenantId)
    .where('audit.at', '=', last.at)
    .where('audit.id', '<', last.id)
    .limit(MAX_TIES)
    .execute();
  return [...rows, ...ties].map(parseAuditRow);
}

function selectAudit(db: Db, tenantId: TenantId | undefined) {
  return db.k
    .selectFrom('audit')
    .leftJoin('tenants', 'tenants.id', 'audit.tenant_id')
    .selectAll('audit')
    .select('tenants.name as tenant')
    .$if(tenantId !== undefined, (query) => query.where('audit.tenant_id', '=', tenantId ?? null))
    .orderBy('audit.at', 'desc')
    .orderBy('audit.id', 'desc');
}

function parseAuditRow(row: { readonly [column: string]: unknown }): AuditRecord {
  const tenant = readOptionalText(row['tenant'], 'tenants.name');
  const value = (column: string): unknown =>
    row[column] === null ? undefined : readJson(row[column], `audit.${column}`);
  const oldValue = value('old_value');
  const newValue = value('new_value');
  return {
    at: readInteger(row['at'], 'audit.at'),
    actor: readText(row['actor'], 'audit.actor'),
    ...(tenant === undefined ? {} : { tenant: parseTenantName(tenant) }),
    action: readText(row['action'], 'audit.action'),
    target: readText(row['target'], 'audit.target'),
    ...(oldValue === undefined ? {} : { oldValue }),
    ...(newValue === undefined ? {} : { newValue }),
    requestId: readText(row['request_id'], 'audit.request_id'),
    address: readText(row['address'], 'audit.address'),
  };
}
