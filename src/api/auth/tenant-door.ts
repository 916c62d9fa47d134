import type { Caller, TenantRef } from '../../builds/service/caller.ts';
import type { TenantService } from '../../builds/service/tenant-service.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { TenantName } from '../../core/ids.ts';
import { type BucketState, TokenBuckets } from './token-bucket.ts';

interface Entry {
  readonly tenant: TenantRef;
  readonly suspended: boolean;
  readonly requestsPerMinute: number;
  readonly requestBurst: number;
}

export interface TenantDoorOptions {
  readonly tenants: TenantService;
  readonly cacheMs: number;
  readonly nowMs: () => number;
}

export interface Admission {
  readonly tenant: TenantRef;
  readonly suspended: boolean;
  readonly perMinute: number;
  readonly bucket: BucketState;
}

const MAX_TENANTS = 10_000;

/** Lets a caller in to one tenant, and takes one request from the tenant's bucket. */
export class TenantDoor {
  readonly #options: TenantDoorOptions;
  readonly #entries = new Map<string, { readonly entry: Entry; readonly until: number }>();
  readonly #buckets: TokenBuckets;

  constructor(options: TenantDoorOptions) {
    this.#options = options;
    this.#buckets = new TokenBuckets({ maxKeys: MAX_TENANTS, nowMs: options.nowMs });
  }

  /** Throws `api.forbidden`, `api.not_found`, and what the service throws without a name. */
  async enter(
    caller: Caller,
    named: TenantName | undefined,
    call: { readonly signal: AbortSignal },
  ): Promise<Admission> {
    const name = named ?? soleTenantOf(caller);
    if (name !== undefined && caller.tenants !== 'all' && !caller.tenants.has(name)) {
      throw new BuilderdError(
        'api.forbidden',
        'Cannot act for this tenant: the token is for another',
      );
    }
    const entry = await this.#find(caller, name, call);
    const { tenant, suspended, requestsPerMinute: perMinute, requestBurst: burst } = entry;
    const bucket = this.#buckets.take(tenant.id, { perMinute, burst });
    return { tenant, suspended, perMinute, bucket };
  }

  /** Whether the tenant is suspended now, for one that was let in before; takes no request. */
  async isSuspended(
    caller: Caller,
    { name }: TenantRef,
    call: { readonly signal: AbortSignal },
  ): Promise<boolean> {
    return (await this.#find(caller, name, call)).suspended;
  }

  async #find(
    caller: Caller,
    name: TenantName | undefined,
    call: { readonly signal: AbortSignal },
  ): Promise<Entry> {
    const now = this.#options.nowMs();
    const known = name === undefined ? undefined : this.#entries.get(name);
    if (known !== undefined && known.until > now) return known.entry;
    const tenant = await this.#options.tenants.resolve(caller, name, call);
    const { quotas, suspended } = await this.#options.tenants.get(tenant, call);
    const { requestsPerMinute, requestBurst } = quotas;
    const entry = { tenant, suspended, requestsPerMinute, requestBurst };
    this.#entries.delete(tenant.name);
    this.#entries.set(tenant.name, { entry, until: now + this.#options.cacheMs });
    if (this.#entries.size > MAX_TENANTS) {
      const [oldest] = this.#entries.keys();
      if (oldest !== undefined) this.#entries.delete(oldest);
    }
    return entry;
  }
}

function soleTenantOf({ tenants }: Caller): TenantName | undefined {
  if (tenants === 'all' || tenants.size !== 1) return undefined;
  const [only] = tenants;
  return only;
}
