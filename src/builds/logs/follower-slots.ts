import { BuilderdError } from '../../core/errors.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';

/** How many followers there may be at once. */
export interface FollowerLimits {
  readonly perBuild: number;
  readonly perTenant: number;
  readonly perProcess: number;
}

export const FOLLOWER_LIMITS: FollowerLimits = { perBuild: 20, perTenant: 100, perProcess: 1000 };

/** Counts followers, and refuses those that are too many. */
export class FollowerSlots {
  readonly #limits: FollowerLimits;
  readonly #counts = new Map<string, number>();

  constructor(limits: FollowerLimits) {
    this.#limits = limits;
  }

  /** Throws `api.too_many`. What is given back twice counts once. */
  take(tenantId: TenantId, buildId: BuildId): Disposable {
    const { perBuild, perTenant, perProcess } = this.#limits;
    // Only the tenant's own numbers are told; ids are UUIDs, so that the keys cannot be confused.
    const scopes = [
      { key: `${tenantId} ${buildId}`, limit: perBuild, whose: 'this build' },
      { key: tenantId, limit: perTenant, whose: 'the tenant' },
      { key: '', limit: perProcess, whose: 'this server' },
    ];
    for (const { key, limit, whose } of scopes) {
      if ((this.#counts.get(key) ?? 0) < limit) continue;
      throw new BuilderdError(
        'api.too_many',
        `Cannot follow the log: ${whose} has ${limit} followers already, which is the limit`,
        { details: { limit, retryAfterSeconds: 5 } },
      );
    }
    for (const { key } of scopes) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        for (const { key } of scopes) this.#release(key);
      },
    };
  }

  get total(): number {
    return this.#counts.get('') ?? 0;
  }

  #release(key: string): void {
    const left = (this.#counts.get(key) ?? 1) - 1;
    if (left === 0) this.#counts.delete(key);
    else this.#counts.set(key, left);
  }
}
