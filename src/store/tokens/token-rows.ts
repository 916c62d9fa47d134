import { type RawBuilder, type SelectQueryBuilder, sql } from 'kysely';
import { BuilderdError } from '../../core/errors.ts';
import { newId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import type { Schema } from '../schema.ts';
import { readNow } from '../read-now.ts';
import { readInteger } from '../row-values.ts';
import {
  hashToken,
  parseTokenRow,
  tokenPrefix,
  type TokenRecord,
  type TokenRole,
} from './token-record.ts';

export interface NewToken {
  readonly text: string;
  /** Absent for operator tokens only. */
  readonly tenantId?: TenantId;
  readonly role: TokenRole;
  readonly name: string;
  readonly createdBy: string;
  readonly ttlMs?: number;
  /** When what makes it ends: it ends no later, whatever `ttlMs` says. */
  readonly notAfter?: number;
}

const LAST_USED_STEP_MS = 60_000;

export async function insertToken(tx: Db, token: NewToken): Promise<TokenRecord> {
  const id = newId();
  const now = await readNow(tx);
  if (token.notAfter !== undefined && token.notAfter <= now) {
    throw new BuilderdError(
      'api.unauthenticated',
      'Cannot create a token: the one that was sent has ended',
    );
  }
  const ends = [
    ...(token.ttlMs === undefined ? [] : [now + token.ttlMs]),
    ...(token.notAfter === undefined ? [] : [token.notAfter]),
  ];
  await tx.k
    .insertInto('tokens')
    .values({
      id,
      hash: hashToken(token.text),
      prefix: tokenPrefix(token.text),
      tenant_id: token.tenantId ?? null,
      role: token.role,
      name: token.name,
      created_at: now,
      created_by: token.createdBy,
      expires_at: ends.length === 0 ? null : Math.min(...ends),
      revoked_at: null,
      last_used_at: null,
    })
    .execute();
  const made = await findToken(tx, id);
  if (made === undefined) throw new BuilderdError('internal', 'Cannot read back a new token');
  return made;
}

/**
 * The token that stands for a text and may still be used. `isUseNoted` says whether `last_used_at`
 * is fresh enough: a write for each request would cost more than it tells.
 */
export async function findLiveToken(
  db: Db,
  text: string,
): Promise<{ readonly token: TokenRecord; readonly isUseNoted: boolean } | undefined> {
  const row = await selectTokens(db)
    .select(db.now.as('now'))
    .where('tokens.hash', '=', hashToken(text))
    .where(isLiveToken(db))
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const token = parseTokenRow({ ...row });
  const ageMs = readInteger(row['now'], 'now') - (token.lastUsedAt ?? 0);
  return { token, isUseNoted: ageMs < LAST_USED_STEP_MS };
}

/** Whether the text was ever a token here, revoked or not. */
export async function isKnownToken(db: Db, text: string): Promise<boolean> {
  const row = await db.k
    .selectFrom('tokens')
    .select('id')
    .where('hash', '=', hashToken(text))
    .executeTakeFirst();
  return row !== undefined;
}

export async function hasLiveOperatorToken(db: Db): Promise<boolean> {
  const row = await db.k
    .selectFrom('tokens')
    .select('id')
    .where('tenant_id', 'is', null)
    .where('role', '=', 'operator')
    .where(isLiveToken(db))
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

export async function findToken(
  db: Db,
  id: string,
  scope: { readonly tenantId?: TenantId } = {},
): Promise<TokenRecord | undefined> {
  const { tenantId } = scope;
  const row = await selectTokens(db)
    .where('tokens.id', '=', id)
    .$if(tenantId !== undefined, (query) => query.where('tokens.tenant_id', '=', tenantId ?? null))
    .executeTakeFirst();
  return row === undefined ? undefined : parseTokenRow({ ...row });
}

/** Where a page of `listTokens` begins: after this token, which was alive then or not. */
export interface TokenPosition {
  readonly isLive: boolean;
  readonly id: string;
}

/** Those that work first, newest first among each. Without a tenant: all. */
export async function listTokens(
  db: Db,
  {
    tenantId,
    after,
    limit,
  }: { readonly tenantId?: TenantId; readonly after?: TokenPosition; readonly limit: number },
): Promise<readonly { readonly token: TokenRecord; readonly isLive: boolean }[]> {
  const part = async (isLive: boolean, most: number) => {
    const rows = await selectTokens(db)
      .$if(tenantId !== undefined, (query) =>
        query.where('tokens.tenant_id', '=', tenantId ?? null),
      )
      .where(isLive ? isLiveToken(db) : sql<boolean>`not (${isLiveToken(db)})`)
      .$if(after?.isLive === isLive, (query) => query.where('tokens.id', '<', after?.id ?? ''))
      .orderBy('tokens.id', 'desc')
      .limit(most)
      .execute();
    return rows.map((row) => ({ token: parseTokenRow({ ...row }), isLive }));
  };
  const live = after?.isLive === false ? [] : await part(true, limit);
  return live.length === limit ? live : [...live, ...(await part(false, limit - live.length))];
}

export async function countLiveTokens(db: Db, tenantId: TenantId): Promise<number> {
  const row = await db.k
    .selectFrom('tokens')
    .select((eb) => eb.fn.countAll().as('count'))
    .where('tenant_id', '=', tenantId)
    .where(isLiveToken(db))
    .executeTakeFirst();
  return readInteger(row?.count, 'count');
}

/**
 * The token, held until the transaction ends and still good: what was known of it a moment ago may
 * have been revoked since. A revocation begins with this row, so one of the two waits for the other.
 */
export async function holdLiveToken(tx: Db, id: string): Promise<TokenRecord | undefined> {
  const query = tx.k.selectFrom('tokens').select('id').where('id', '=', id).where(isLiveToken(tx));
  const row = await (tx.dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst();
  return row === undefined ? undefined : findToken(tx, id);
}

export async function noteTokenUse(db: Db, token: TokenRecord): Promise<void> {
  await db.k
    .updateTable('tokens')
    .set({ last_used_at: db.now })
    .where('id', '=', token.id)
    .execute();
}

/** About a row of `tokens`, under that name. */
export function isLiveToken(db: Db): RawBuilder<boolean> {
  return sql<boolean>`tokens.revoked_at is null and (tokens.expires_at is null or tokens.expires_at > ${db.now})`;
}

function selectTokens(db: Db): SelectQueryBuilder<Schema, 'tokens', Record<string, unknown>> {
  return db.k
    .selectFrom('tokens')
    .leftJoin('tenants', 'tenants.id', 'tokens.tenant_id')
    .select([
      'tokens.id',
      'tokens.prefix',
      'tokens.role',
      'tokens.name',
      'tokens.created_at',
      'tokens.created_by',
      'tokens.expires_at',
      'tokens.revoked_at',
      'tokens.last_used_at',
      'tenants.name as tenant',
    ]);
}
