import { abortable } from '../../core/abortable.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { ApiLimits } from '../api-limits.ts';
import { networkOf } from '../http/network-of.ts';
import { type BucketSize, TokenBuckets } from './token-bucket.ts';

const MAX_ADDRESSES = 20_000;

/** Counts by network: requests that no tenant answers for, and credentials that were refused. */
export class AddressLimits {
  readonly #requests: TokenBuckets;
  readonly #failures: TokenBuckets;
  readonly #trials = new Map<string, Trials>();
  readonly #limits: ApiLimits;
  readonly #guesses: BucketSize;

  constructor(limits: ApiLimits, nowMs: () => number) {
    this.#limits = limits;
    this.#guesses = { perMinute: limits.failuresPerMinute, burst: limits.failureBurst };
    this.#requests = new TokenBuckets({ maxKeys: MAX_ADDRESSES, nowMs });
    this.#failures = new TokenBuckets({ maxKeys: MAX_ADDRESSES, nowMs });
  }

  /** Throws `api.too_many`. */
  enter(address: string): void {
    const { addressRequestsPerMinute: perMinute, addressBurst: burst } = this.#limits;
    const state = this.#requests.take(networkOf(address), { perMinute, burst });
    if (!state.taken) throw tooMany('its address sent too many requests', state.retrySeconds);
  }

  /**
   * Tries a credential. Each costs a guess before it is looked at, so that guesses sent all at once
   * do not pass before one is counted; only one that is found wrong has cost it in the end. While
   * others from there hold all guesses it waits for them: right ones do not refuse each other.
   * Throws `api.too_many` for a network that guessed wrong too often.
   */
  async guess<T>(
    address: string,
    check: () => Promise<T | undefined>,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<T | undefined> {
    const network = networkOf(address);
    const trials = await this.#takeGuess(network, signal);
    let isWrong = false;
    try {
      const found = await check();
      isWrong = found === undefined;
      return found;
    } finally {
      if (!isWrong) this.#failures.giveBack(network, this.#guesses);
      trials.open -= 1;
      if (trials.open === 0) this.#trials.delete(network);
      const { changed } = trials;
      trials.changed = Promise.withResolvers();
      changed.resolve();
    }
  }

  async #takeGuess(network: string, signal: AbortSignal): Promise<Trials> {
    for (;;) {
      const state = this.#failures.take(network, this.#guesses);
      const trials = this.#trials.get(network);
      if (state.taken) {
        const counted = trials ?? { open: 0, changed: Promise.withResolvers<void>() };
        counted.open += 1;
        this.#trials.set(network, counted);
        return counted;
      }
      if (trials === undefined) {
        throw tooMany('its address sent too many wrong tokens', state.retrySeconds);
      }
      await abortable(trials.changed.promise, signal);
    }
  }
}

interface Trials {
  /** Credentials of the network that are being looked at. */
  open: number;
  /** Resolved, and replaced, when one of them is through. */
  changed: PromiseWithResolvers<void>;
}

function tooMany(fact: string, retryAfterSeconds: number): BuilderdError {
  return new BuilderdError('api.too_many', `Cannot answer the request: ${fact}`, {
    details: { retryAfterSeconds },
  });
}
