import { BuilderdError } from '../../core/errors.ts';
import type { ApiLimits } from '../api-limits.ts';
import { TokenBuckets } from './token-bucket.ts';

const MAX_ADDRESSES = 20_000;

/** Counts by address: requests without a credential, and credentials that were refused. */
export class AddressLimits {
  readonly #requests: TokenBuckets;
  readonly #failures: TokenBuckets;
  readonly #limits: ApiLimits;

  constructor(limits: ApiLimits, nowMs: () => number) {
    this.#limits = limits;
    this.#requests = new TokenBuckets({ maxKeys: MAX_ADDRESSES, nowMs });
    this.#failures = new TokenBuckets({ maxKeys: MAX_ADDRESSES, nowMs });
  }

  /** Throws `api.too_many`. */
  enter(address: string): void {
    const { addressRequestsPerMinute: perMinute, addressBurst: burst } = this.#limits;
    const state = this.#requests.take(networkOf(address), { perMinute, burst });
    if (!state.taken) throw tooMany('its address sent too many requests', state.retrySeconds);
  }

  /** Before a credential is tried. Throws `api.too_many` for an address that guessed too often. */
  checkGuesses(address: string): void {
    const { failuresPerMinute: perMinute, failureBurst: burst } = this.#limits;
    const state = this.#failures.look(networkOf(address), { perMinute, burst });
    if (!state.taken) throw tooMany('its address sent too many wrong tokens', state.retrySeconds);
  }

  countGuess(address: string): void {
    const { failuresPerMinute: perMinute, failureBurst: burst } = this.#limits;
    this.#failures.take(networkOf(address), { perMinute, burst });
  }
}

/** One IPv6 customer holds a /64; counting single addresses would count nothing. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.toLowerCase().split('%', 1)[0]?.split('::', 2) ?? [];
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = tail === undefined ? 0 : 8 - before.length - after.length;
  const groups = [...before, ...Array<string>(Math.max(0, gap)).fill('0'), ...after];
  return `${groups
    .slice(0, 4)
    .map((each) => each.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}

function tooMany(fact: string, retryAfterSeconds: number): BuilderdError {
  return new BuilderdError('api.too_many', `Cannot answer the request: ${fact}`, {
    details: { retryAfterSeconds },
  });
}
