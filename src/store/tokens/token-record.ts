import { createHash, randomBytes } from 'node:crypto';
import { parseTenantName, type TenantName } from '../../core/ids.ts';
import {
  readInteger,
  readOneOf,
  readOptionalInteger,
  readOptionalText,
  readText,
} from '../row-values.ts';

export const TOKEN_ROLES = ['operator', 'tenant', 'reader'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

/** A token without what proves it. */
export interface TokenRecord {
  readonly id: string;
  readonly prefix: string;
  readonly role: TokenRole;
  readonly tenant?: TenantName;
  readonly name: string;
  readonly createdAt: number;
  readonly createdBy: string;
  readonly expiresAt?: number;
  readonly revokedAt?: number;
  readonly lastUsedAt?: number;
}

const TOKEN = /^bld_[A-Za-z0-9_-]{43}$/;
/** Enough to tell one's tokens apart; leaves 220 bits unknown. */
const PREFIX_LENGTH = 10;

/** `bld_` and 32 random bytes: scanners find it, nobody guesses it. */
export function newTokenText(): string {
  return `bld_${randomBytes(32).toString('base64url')}`;
}

export function isTokenText(text: string): boolean {
  return TOKEN.test(text);
}

/** What the database keeps. A look-up by hash leaks no timing about the token. */
export function hashToken(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

export function tokenPrefix(text: string): string {
  return text.slice(0, PREFIX_LENGTH);
}

/** A row of `tokens` with its tenant's name as `tenant`. */
export function parseTokenRow(row: { readonly [column: string]: unknown }): TokenRecord {
  const tenant = readOptionalText(row['tenant'], 'tenants.name');
  const expiresAt = readOptionalInteger(row['expires_at'], 'tokens.expires_at');
  const revokedAt = readOptionalInteger(row['revoked_at'], 'tokens.revoked_at');
  const lastUsedAt = readOptionalInteger(row['last_used_at'], 'tokens.last_used_at');
  return {
    id: readText(row['id'], 'tokens.id'),
    prefix: readText(row['prefix'], 'tokens.prefix'),
    role: readOneOf(TOKEN_ROLES, row['role'], 'tokens.role'),
    ...(tenant === undefined ? {} : { tenant: parseTenantName(tenant) }),
    name: readText(row['name'], 'tokens.name'),
    createdAt: readInteger(row['created_at'], 'tokens.created_at'),
    createdBy: readText(row['created_by'], 'tokens.created_by'),
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(revokedAt === undefined ? {} : { revokedAt }),
    ...(lastUsedAt === undefined ? {} : { lastUsedAt }),
  };
}
