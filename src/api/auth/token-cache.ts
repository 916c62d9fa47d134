import { hash } from 'node:crypto';
import type { Caller } from '../../builds/service/caller.ts';

/** What a credential proves; address and request id are of the request. */
export type Identity = Pick<Caller, 'actor' | 'role' | 'tenants' | 'expiresAt'>;

const MAX_TOKENS = 10_000;

/**
 * Verified tokens, believed for `ttlMs` at most: that is how long a revocation may take. Kept by
 * their hash, so that a heap dump holds no token. Requests that come at once with the same token
 * share one verification.
 */
export class TokenCache {
  readonly #known = new Map<string, { readonly identity: Identity; readonly until: number }>();
  readonly #pending = new Map<string, Promise<Identity | undefined>>();
  readonly #ttlMs: number;
  readonly #nowMs: () => number;

  constructor({ ttlMs, nowMs }: { readonly ttlMs: number; readonly nowMs: () => number }) {
    this.#ttlMs = ttlMs;
    this.#nowMs = nowMs;
  }

  find(token: string): Identity | undefined {
    const known = this.#known.get(keyOf(token));
    return known !== undefined && known.until > this.#nowMs() ? known.identity : undefined;
  }

  /** Whether the last look at it found it right, however long ago. */
  wasRight(token: string): boolean {
    return this.#known.has(keyOf(token));
  }

  async verify(
    token: string,
    check: () => Promise<Identity | undefined>,
  ): Promise<Identity | undefined> {
    const key = keyOf(token);
    const pending = this.#pending.get(key);
    if (pending !== undefined) return pending;
    // The time counts from before the look-up: what it saw was true then.
    const until = this.#nowMs() + this.#ttlMs;
    const verification = check();
    this.#pending.set(key, verification);
    try {
      const identity = await verification;
      if (identity === undefined) this.#known.delete(key);
      else this.#remember(key, identity, until);
      return identity;
    } finally {
      this.#pending.delete(key);
    }
  }

  #remember(key: string, identity: Identity, until: number): void {
    this.#known.delete(key);
    this.#known.set(key, { identity, until });
    if (this.#known.size <= MAX_TOKENS) return;
    const [oldest] = this.#known.keys();
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}

function keyOf(token: string): string {
  return hash('sha256', token, 'base64');
}
