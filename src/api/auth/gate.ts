import type { FastifyRequest } from 'fastify';
import type { Caller, TenantRef } from '../../builds/service/caller.ts';
import type { Clock } from '../../core/clock.ts';
import { BuilderdError } from '../../core/errors.ts';
import { parseTenantName, type TenantName } from '../../core/ids.ts';
import type { Log } from '../../core/log.ts';
import { detachedSignal } from '../../core/scope.ts';
import type { RouteAccess } from './access.ts';
import type { AddressLimits } from './address-limits.ts';
import { type BearerOptions, identify, identifyAgain } from './bearer.ts';
import { ended, watchFollower } from './follow-watch.ts';
import type { TenantDoor } from './tenant-door.ts';
import type { Identity } from './token-cache.ts';

export interface GateOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Between two looks whether a follower may still follow. */
  readonly reverifyMs: number;
  readonly door: TenantDoor;
  readonly addresses: AddressLimits;
  /** Undefined in development mode, where everyone is an operator. */
  readonly bearer: Omit<BearerOptions, 'addresses'> | undefined;
}

const DEVELOPER: Identity = { actor: 'development', role: 'operator', tenants: 'all' };
const LOOK_LIMIT_MS = 10_000;
/** What a development request without X-Tenant-ID acts for. */
const DEVELOPMENT_TENANT = parseTenantName('default');

/**
 * What every request passes before its body is read: who calls, may they use this route, for which
 * tenant, and has that tenant requests left. RPC and streams pass it like the rest.
 */
export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** `guard` is undefined for a path that no route has: it costs like a public one. */
  async pass(request: FastifyRequest, guard: RouteAccess | undefined): Promise<void> {
    if (guard === undefined || guard.access === 'public') {
      if (guard?.unmetered !== true) this.#options.addresses.enter(request.ip);
      return;
    }
    try {
      await this.#enter(request, guard);
    } catch (reason) {
      // No tenant answers for what is refused here: its address does, whatever was wrong.
      if (isCallersFault(reason)) this.#options.addresses.enter(request.ip);
      throw reason;
    }
  }

  /** Throws what `check` throws, once the address has paid for it. */
  meterRefusals(request: FastifyRequest, check: () => void): void {
    try {
      check();
    } catch (reason) {
      if (isCallersFault(reason)) this.#options.addresses.enter(request.ip);
      throw reason;
    }
  }

  async #enter(request: FastifyRequest, guard: RouteAccess): Promise<void> {
    const caller = await this.#callerOf(request);
    request.state.caller = caller;
    refuseRole(caller, guard.access);
    const named = tenantHeader(request);
    const isNamed = caller.tenants !== 'all' || named !== undefined;
    const isKnown = named !== undefined || (caller.tenants !== 'all' && caller.tenants.size === 1);
    if (
      guard.tenant === 'required' ||
      (guard.tenant === 'optional' && isNamed) ||
      (guard.tenant === 'deferred' && isKnown)
    ) {
      await this.#admit(request, caller, named);
    } else {
      // Still metered, and before a body is read: an operator's script may not flood us either.
      this.#options.addresses.enter(request.ip);
    }
  }

  /** For routes whose tenant is named in the message. */
  async enterTenant(request: FastifyRequest, named: TenantName | undefined): Promise<TenantRef> {
    const { caller, tenant } = request.state;
    if (caller === undefined)
      throw new BuilderdError('internal', 'Cannot enter a tenant: the route is public');
    if (tenant === undefined) return this.#admit(request, caller, named);
    // Entered before the body was read, and paid for.
    if (named === undefined || named === tenant.name) return tenant;
    throw new BuilderdError(
      'api.forbidden',
      tenantHeader(request) === undefined
        ? 'Cannot act for this tenant: the token is for another'
        : 'Cannot act for this tenant: X-Tenant-ID names another',
    );
  }

  /**
   * The signal of a stream that may last: of the request, and aborted with a typed fault as soon as
   * the credential is revoked or ends, or the tenant is suspended. Throws `api.forbidden` for a
   * tenant that is suspended; its operator may follow.
   */
  follow(request: FastifyRequest): AbortSignal {
    const { state, id: requestId } = request;
    const { caller, tenant } = state;
    if (caller === undefined || tenant === undefined) {
      throw new BuilderdError('internal', 'Cannot follow: no tenant was entered');
    }
    if (state.isSuspended && caller.role !== 'operator') throw suspended();
    const { clock, log, reverifyMs } = this.#options;
    const signal = state.streamSignal();
    const { expiresAt } = caller;
    // Settles always.
    void watchFollower({
      signal,
      everyMs: reverifyMs,
      ...(expiresAt === undefined ? {} : { expiresAt }),
      clock,
      refusal: () => this.#refusalOf(request, caller, tenant),
      end: (reason) => state.endStream(reason),
      log,
      requestId,
    });
    return signal;
  }

  /** Why the caller that was let in would not be let in now. */
  async #refusalOf(
    request: FastifyRequest,
    caller: Caller,
    tenant: TenantRef,
  ): Promise<BuilderdError | undefined> {
    const { bearer, door } = this.#options;
    if (bearer !== undefined) {
      const identity = await identifyAgain(request.headers.authorization, bearer);
      if (identity?.actor !== caller.actor) return ended('the token that was sent is revoked');
      if (identity.tenants !== 'all' && !identity.tenants.has(tenant.name)) {
        return ended('the token that was sent is for another tenant');
      }
    }
    if (caller.role === 'operator') return undefined;
    const call = { signal: detachedSignal(LOOK_LIMIT_MS) };
    return (await door.isSuspended(caller, tenant, call)) ? suspended() : undefined;
  }

  async #callerOf(request: FastifyRequest): Promise<Caller> {
    const { addresses, bearer } = this.#options;
    const { ip: address } = request;
    refuseTokenInQuery(request);
    const identity =
      bearer === undefined
        ? DEVELOPER
        : await identify(
            { header: request.headers.authorization, address, signal: request.state.call().signal },
            { ...bearer, addresses },
          );
    return { ...identity, requestId: request.id, address };
  }

  async #admit(
    request: FastifyRequest,
    caller: Caller,
    named: TenantName | undefined,
  ): Promise<TenantRef> {
    const { bearer, clock, door } = this.#options;
    const name = named ?? (bearer === undefined ? DEVELOPMENT_TENANT : undefined);
    const { tenant, suspended, perMinute, bucket } = await door.enter(
      caller,
      name,
      request.state.call(),
    );
    request.state.reply.headers({
      'ratelimit-limit': perMinute,
      'ratelimit-remaining': bucket.remaining,
      'ratelimit-reset': bucket.resetSeconds,
      'ratelimit-policy': `${perMinute};w=60`,
      'x-ratelimit-limit': perMinute,
      'x-ratelimit-remaining': bucket.remaining,
      'x-ratelimit-reset': Math.ceil(clock.now().getTime() / 1000) + bucket.resetSeconds,
    });
    if (!bucket.taken) {
      throw new BuilderdError(
        'api.too_many',
        `Cannot answer the request: the tenant sent over ${perMinute} requests a minute`,
        {
          details: {
            quotaType: 'requests',
            limit: perMinute,
            retryAfterSeconds: bucket.retrySeconds,
          },
        },
      );
    }
    request.state.tenant = tenant;
    request.state.isSuspended = suspended;
    return tenant;
  }
}

/** Not ours, and not the refusal of a tenant or address that sent too much: that one is free. */
function isCallersFault(reason: unknown): boolean {
  if (!(reason instanceof BuilderdError) || reason.code === 'api.too_many') return false;
  return reason.entry.fault === 'user';
}

function suspended(): BuilderdError {
  return new BuilderdError('api.forbidden', 'Cannot follow: the tenant is suspended');
}

function refuseRole({ role }: Caller, access: RouteAccess['access']): void {
  if (role === 'operator' || access === 'read') return;
  if (access === 'write' && role === 'tenant') return;
  throw new BuilderdError(
    'api.forbidden',
    access === 'operator'
      ? 'Cannot do this: it is for operators'
      : 'Cannot do this: the token may only read',
  );
}

function tenantHeader(request: FastifyRequest): TenantName | undefined {
  const value = request.headers['x-tenant-id'];
  if (value === undefined || value === '') return undefined;
  return parseTenantName(Array.isArray(value) ? value.join(',') : value);
}

/** A token in a URL ends up in logs and histories: it is refused, so that nobody starts. */
function refuseTokenInQuery(request: FastifyRequest): void {
  const { query } = request;
  if (typeof query !== 'object' || query === null) return;
  for (const name of Object.keys(query)) {
    if (/^(?:access_?token|token|api_?key|authorization)$/i.test(name)) {
      throw new BuilderdError(
        'api.invalid',
        'Cannot take a token from the URL: send it as Authorization',
      );
    }
  }
}
