import { BuilderdError } from '../../../core/errors.ts';
import { isUuid } from '../../../core/ids.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import type { Db } from '../../../store/database.ts';
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
  revokeTokens,
  noteTokenUse,
} from '../../../store/tokens/token-rows.ts';
import type { Caller, TenantRef } from '../caller.ts';
import type { TenantService, TokenView } from '../tenant-service.ts';
import { requireOperator, requireTenant, requireWriter } from './access.ts';
import type { TenantServiceOptions } from './tenant-deps.ts';

type Part = Pick<TenantService, 'createToken' | 'listTokens' | 'revokeToken' | 'authenticate'>;

const MAX_LIVE_TOKENS = 1000;
const MAX_LISTED = 5000;
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

    async listTokens(caller, tenant) {
      if (tenant === undefined) requireOperator(caller, 'list all tokens');
      else requireTenant(caller, tenant, 'list tokens');
      const scope = tenant === undefined ? {} : { tenantId: tenant.id };
      return listTokens(database, { ...scope, limit: MAX_LISTED });
    },

    async revokeToken(caller, tenant, id, { signal }) {
      requireWriter(caller, 'revoke a token');
      if (tenant === undefined) requireOperator(caller, "revoke any tenant's token");
      else requireTenant(caller, tenant, 'revoke a token');
      await database.transaction(
        async (tx) => {
          const scope = tenant === undefined ? {} : { tenantId: tenant.id };
          const token = isUuid(id) ? await findToken(tx, id, scope) : undefined;
          if (token === undefined) {
            throw new BuilderdError(
              'api.not_found',
              'Cannot find the token: there is none with this id',
            );
          }
          for (const revoked of await revokeTokens(tx, token)) {
            await writeAudit(tx, caller, {
              ...scope,
              action: 'token.revoke',
              target: revoked,
              oldValue: revoked === token.id ? auditedOf(token) : { createdWith: token.id },
            });
          }
        },
        { signal },
      );
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
        : { actor: `token:${token.id}`, role: token.role, tenants };
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

/** A token that ends cannot make one that lasts longer; one that was revoked makes none. */
async function endOfParent(tx: Db, caller: Caller): Promise<number | undefined> {
  if (!caller.actor.startsWith('token:')) return undefined;
  const parent = await holdLiveToken(tx, caller.actor.slice('token:'.length));
  if (parent !== undefined) return parent.expiresAt;
  throw new BuilderdError(
    'api.unauthenticated',
    'Cannot create a token: the one that was sent is revoked or has ended',
  );
}

function auditedOf({ prefix, role, name, expiresAt }: TokenRecord): object {
  return { prefix, role, name, ...(expiresAt === undefined ? {} : { expiresAt }) };
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot create a token with this ${fact}`);
}
