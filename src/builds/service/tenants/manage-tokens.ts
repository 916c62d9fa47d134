import { BuilderdError } from '../../../core/errors.ts';
import { isUuid } from '../../../core/ids.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import type { Database, Db } from '../../../store/database.ts';
import {
  isTokenText,
  newTokenText,
  TOKEN_ROLES,
  type TokenRecord,
} from '../../../store/tokens/token-record.ts';
import {
  countLiveTokens,
  findLiveToken,
  findToken,
  holdLiveToken,
  insertToken,
  listTokens,
  noteTokenUse,
  type TokenPosition,
} from '../../../store/tokens/token-rows.ts';
import { revokeMade, revokeToken } from '../../../store/tokens/revoke-tokens.ts';
import type { Caller, TenantRef } from '../caller.ts';
import type { TenantService, TokenView } from '../tenant-service.ts';
import { requireOperator, requireTenant, requireWriter } from './access.ts';
import { holdActiveTenant } from './active-tenant.ts';
import type { TenantServiceOptions } from './tenant-deps.ts';

type Part = Pick<TenantService, 'createToken' | 'listTokens' | 'revokeToken' | 'authenticate'>;

const MAX_LIVE_TOKENS = 1000;
const MAX_LISTED = 500;
/** Tokens that one transaction revokes: others wait for its locks. */
const REVOKED_AT_ONCE = 200;
const MAX_TTL_SECONDS = 10 * 365 * 24 * 3600;
const NAME = /^[^\u0000-\u001f\u007f]{1,200}$/u;

export function manageTokens({ database, log }: TenantServiceOptions): Part {
  return {
    async createToken(caller, input, { signal }) {
      requireWriter(caller, 'create a token');
      const wish = parseTokenWish(caller, input);
      const text = newTokenText();
      const token = await database.transaction(
        async (tx) => {
          const { tenant } = wish;
          // Its lock makes the count hold.
          if (tenant !== undefined) await holdActiveTenant(tx, caller, tenant, 'create a token');
          if (tenant !== undefined && (await countLiveTokens(tx, tenant.id)) >= MAX_LIVE_TOKENS) {
            throw new BuilderdError(
              'api.conflict',
              `Cannot create a token: tenant ${tenant.name} has ${MAX_LIVE_TOKENS}; revoke some`,
            );
          }
          const notAfter = await endOfParent(tx, caller);
          const made = await insertToken(tx, {
            text,
            role: wish.role,
            name: wish.name,
            createdBy: caller.actor,
            ...(tenant === undefined ? {} : { tenantId: tenant.id }),
            ...(wish.ttlMs === undefined ? {} : { ttlMs: wish.ttlMs }),
            ...(notAfter === undefined ? {} : { notAfter }),
          });
          await writeAudit(tx, caller, {
            ...(tenant === undefined ? {} : { tenantId: tenant.id }),
            action: 'token.create',
            target: made.id,
            newValue: auditedOf(made),
          });
          return made;
        },
        { signal },
      );
      return { token, secret: text };
    },

    async listTokens(caller, tenant, { limit = MAX_LISTED, cursor }) {
      if (tenant === undefined) requireOperator(caller, 'list all tokens');
      else requireTenant(caller, tenant, 'list tokens');
      if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_LISTED) {
        throw new BuilderdError('api.invalid', `Cannot list tokens: want 1 to ${MAX_LISTED}`);
      }
      const found = await listTokens(database, {
        limit: limit + 1,
        ...(tenant === undefined ? {} : { tenantId: tenant.id }),
        ...(cursor === undefined ? {} : { after: parseCursor(cursor) }),
      });
      const page = found.slice(0, limit);
      const last = found.length > limit ? page.at(-1) : undefined;
      return {
        tokens: page.map(({ token }) => token),
        ...(last === undefined
          ? {}
          : { nextCursor: formatCursor({ isLive: last.isLive, id: last.token.id }) }),
      };
    },

    async revokeToken(caller, tenant, id, { cascade, signal }) {
      requireWriter(caller, 'revoke a token');
      if (tenant === undefined) requireOperator(caller, "revoke any tenant's token");
      else requireTenant(caller, tenant, 'revoke a token');
      const scope = tenant === undefined ? {} : { tenantId: tenant.id };
      const { role } = await database.transaction(
        async (tx) => {
          const token = isUuid(id) ? await findToken(tx, id, scope) : undefined;
          if (token === undefined) {
            throw new BuilderdError(
              'api.not_found',
              'Cannot find the token: there is none with this id',
            );
          }
          const revoked = await revokeToken(tx, token.id);
          if (revoked === undefined) return token;
          const { tenantId } = revoked;
          await writeAudit(tx, caller, {
            ...(tenantId === undefined ? {} : { tenantId }),
            action: 'token.revoke',
            target: token.id,
            oldValue: auditedOf(token),
            newValue: { revoked: true, ...(cascade === undefined ? {} : { cascade }) },
          });
          return token;
        },
        { signal },
      );
      if (cascade === false) return;
      const which = role !== 'operator' || cascade === true ? 'all' : 'operators';
      for (let left = true; left; ) {
        left = (await revokeSome(database, caller, { id, which, signal })) > 0;
      }
    },

    async authenticate(secret) {
      // Everything else would be hashed and looked up for nothing.
      if (!isTokenText(secret)) return undefined;
      const found = await findLiveToken(database, secret);
      if (found === undefined) return undefined;
      const { token, isUseNoted } = found;
      try {
        if (!isUseNoted) await noteTokenUse(database, token);
      } catch (err) {
        // A full or busy database must not lock callers out who only read.
        log.warn({ err }, 'Cannot note the use of a token');
      }
      const tenants = tenantsOf(token);
      return tenants === undefined
        ? undefined
        : {
            actor: `token:${token.id}`,
            role: token.role,
            tenants,
            ...(token.expiresAt === undefined ? {} : { expiresAt: token.expiresAt }),
          };
    },
  };
}

function tenantsOf(token: TokenRecord): Caller['tenants'] | undefined {
  if (token.tenant !== undefined && token.role !== 'operator') return new Set([token.tenant]);
  // An operator's token of a tenant, or a tenant's token of none: nothing that builderd writes.
  return token.tenant === undefined && token.role === 'operator' ? 'all' : undefined;
}

function parseTokenWish(
  caller: Caller,
  input: Parameters<TenantService['createToken']>[1],
): Pick<TokenView, 'role' | 'name'> & { readonly tenant?: TenantRef; readonly ttlMs?: number } {
  const { tenant, name, ttlSeconds } = input;
  const role = TOKEN_ROLES.find((candidate) => candidate === input.role);
  if (role === undefined) throw invalid(`role: want ${TOKEN_ROLES.join(', ')}`);
  if (!NAME.test(name) || !name.isWellFormed()) throw invalid('name: want 1 to 200 characters');
  if (
    ttlSeconds !== undefined &&
    !(Number.isSafeInteger(ttlSeconds) && ttlSeconds >= 1 && ttlSeconds <= MAX_TTL_SECONDS)
  ) {
    throw invalid(`ttlSeconds: want 1 to ${MAX_TTL_SECONDS}`);
  }
  const ttl = ttlSeconds === undefined ? {} : { ttlMs: ttlSeconds * 1000 };
  if (role === 'operator') {
    requireOperator(caller, 'create an operator token');
    if (tenant !== undefined) throw invalid('tenant: an operator token has none');
    return { role, name, ...ttl };
  }
  if (tenant === undefined) throw invalid('tenant: a token of this role needs one');
  requireTenant(caller, tenant, 'create a token');
  return { role, name, tenant, ...ttl };
}

/** What ends cannot make a token that lasts longer; a token that was revoked makes none. */
async function endOfParent(tx: Db, caller: Caller): Promise<number | undefined> {
  // Of another credential, such as a JWT, only the caller tells.
  if (!caller.actor.startsWith('token:')) return caller.expiresAt;
  const parent = await holdLiveToken(tx, caller.actor.slice('token:'.length));
  if (parent !== undefined) return parent.expiresAt;
  throw new BuilderdError(
    'api.unauthenticated',
    'Cannot create a token: the one that was sent is revoked or has ended',
  );
}

/** Gives how many were revoked of those that the token made. */
async function revokeSome(
  database: Database,
  caller: Caller,
  {
    id,
    which,
    signal,
  }: {
    readonly id: string;
    readonly which: 'operators' | 'all';
    readonly signal: AbortSignal;
  },
): Promise<number> {
  return database.transaction(
    async (tx) => {
      const revoked = await revokeMade(tx, id, { which, limit: REVOKED_AT_ONCE });
      for (const { id: target, tenantId } of revoked) {
        await writeAudit(tx, caller, {
          ...(tenantId === undefined ? {} : { tenantId }),
          action: 'token.revoke',
          target,
          oldValue: { madeWith: id },
          newValue: { revoked: true },
        });
      }
      return revoked.length;
    },
    { signal },
  );
}

function formatCursor({ isLive, id }: TokenPosition): string {
  return `${isLive ? 'live' : 'ended'}.${id}`;
}

/** It names a place in the caller's own list: a forged one shows nothing else. */
function parseCursor(text: string): TokenPosition {
  const [, kind, id = ''] = /^(live|ended)\.(.+)$/.exec(text) ?? [];
  if (isUuid(id)) return { isLive: kind === 'live', id };
  throw new BuilderdError('api.invalid', 'Cannot list tokens from this cursor');
}

function auditedOf({ prefix, role, name, expiresAt }: TokenRecord): object {
  return { prefix, role, name, ...(expiresAt === undefined ? {} : { expiresAt }) };
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot create a token with this ${fact}`);
}
