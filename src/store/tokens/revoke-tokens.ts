import { sql } from 'kysely';
import { parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readOptionalText, readText } from '../row-values.ts';
import { isLiveToken } from './token-rows.ts';

export interface RevokedToken {
  readonly id: string;
  /** Absent for operator tokens. */
  readonly tenantId?: TenantId;
}

/** Undefined when there is none with this id, or it was revoked before. */
export async function revokeToken(tx: Db, id: string): Promise<RevokedToken | undefined> {
  const row = await tx.k
    .updateTable('tokens')
    .set({ revoked_at: tx.now })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .returning(['id', 'tenant_id'])
    .executeTakeFirst();
  return row === undefined ? undefined : parseRevoked({ ...row });
}

/**
 * Revokes at most `limit` live tokens that were made with this one, or with those, and so on: a
 * thief must not keep what he made. `operators` leaves tenants' tokens alone. What a live one of
 * them makes meanwhile is found by the next call, so call until nothing is given: once the maker is
 * revoked, `holdLiveToken` lets it make nothing more.
 */
export async function revokeMade(
  tx: Db,
  id: string,
  { which, limit }: { readonly which: 'operators' | 'all'; readonly limit: number },
): Promise<readonly RevokedToken[]> {
  const wanted = which === 'all' ? sql`` : sql`and tokens.role = 'operator'`;
  // Only an operator's token makes tokens of another tenant than its own.
  const { rows } = await sql<Record<string, unknown>>`
    update tokens set revoked_at = ${tx.now}
    where revoked_at is null and id in (
      with recursive made (id, tenant_id) as (
        select id, tenant_id from tokens where id = ${id}
        union
        select tokens.id, tokens.tenant_id from tokens
        join made on tokens.created_by = 'token:' || made.id
          and (made.tenant_id is null or made.tenant_id = tokens.tenant_id) ${wanted}
      )
      select tokens.id from tokens join made on made.id = tokens.id
      where tokens.id <> ${id} and ${isLiveToken(tx)}
      limit ${sql.lit(limit)}
    )
    returning id, tenant_id`.execute(tx.k);
  return rows.map(parseRevoked);
}

function parseRevoked(row: { readonly [column: string]: unknown }): RevokedToken {
  const tenantId = readOptionalText(row['tenant_id'], 'tokens.tenant_id');
  return {
    id: readText(row['id'], 'tokens.id'),
    ...(tenantId === undefined ? {} : { tenantId: parseTenantId(tenantId) }),
  };
}
