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
    const trials = await this.#enter(network, signal);
    let isWrong = false;
    try {
      const found = await check();
      isWrong = found === undefined;
      return found;
    } finally {
      this.#leave(network, trials, isWrong);
    }
  }

  async #enter(network: string, signal: AbortSignal): Promise<Trials> {
    const state = this.#failures.take(network, this.#guesses);
    const trials = this.#trials.get(network);
    if (state.taken) {
      const counted = trials ?? { open: 0, waiting: new Set<PromiseWithResolvers<void>>() };
      counted.open += 1;
      this.#trials.set(network, counted);
      return counted;
    }
    if (trials === undefined) throw tooManyGuesses(state.retrySeconds);
    signal.throwIfAborted();
    const turn = Promise.withResolvers<void>();
    trials.waiting.add(turn);
    // At once: a guess that is handed to somebody who has left would be lost.
    const onAbort = (): void => {
      if (trials.waiting.delete(turn)) turn.reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await turn.promise;
      return trials;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Wakes nobody in vain: thousands may wait, and each look of each would be felt by all. */
  #leave(network: string, trials: Trials, isWrong: boolean): void {
    const [next] = trials.waiting;
    if (!isWrong && next !== undefined) {
      trials.waiting.delete(next);
      next.resolve();
      return;
    }
    if (!isWrong) this.#failures.giveBack(network, this.#guesses);
    trials.open -= 1;
    if (trials.open > 0) return;
    // No guess will come back to those that still wait; time may have brought some.
    for (const each of trials.waiting) {
      trials.waiting.delete(each);
      const state = this.#failures.take(network, this.#guesses);
      if (state.taken) {
        trials.open += 1;
        each.resolve();
      } else each.reject(tooManyGuesses(state.retrySeconds));
    }
    if (trials.open === 0) this.#trials.delete(network);
  }
}

interface Trials {
  /** Credentials of the network that are being looked at: each has a guess. */
  open: number;
  /** Those that wait for a guess, in their order. */
  readonly waiting: Set<PromiseWithResolvers<void>>;
}

function tooManyGuesses(retryAfterSeconds: number): BuilderdError {
  return tooMany('its address sent too many wrong tokens', retryAfterSeconds);
}

function tooMany(fact: string, retryAfterSeconds: number): BuilderdError {
  return new BuilderdError('api.too_many', `Cannot answer the request: ${fact}`, {
    details: { retryAfterSeconds },
  });
}
