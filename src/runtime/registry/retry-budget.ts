import type { BuilderdError } from '../../core/errors.ts';
import type { Timing } from './timing.ts';

/** Waiting of one acquisition, all requests together: an endless 429 must not hold a build. */
const MAX_TOTAL_WAIT_MS = 5 * 60_000;
const FIRST_DELAY_MS = 250;
const MAX_BACKOFF_MS = 10_000;

/** Backoff with jitter, drawn from one budget of waiting time. */
export class RetryBudget {
  readonly #timing: Timing;
  #leftMs = MAX_TOTAL_WAIT_MS;

  constructor(timing: Timing) {
    this.#timing = timing;
  }

  /** Waits before try `attempt + 1`; throws `fault` when the budget is used up. */
  async pause(
    attempt: number,
    asked: number | undefined,
    fault: BuilderdError,
    call: { readonly signal: AbortSignal },
  ): Promise<void> {
    const backoff = Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS);
    const ms = asked ?? backoff * (0.5 + this.#timing.random() / 2);
    if (ms > this.#leftMs) throw fault;
    this.#leftMs -= ms;
    await this.#timing.sleep(ms, call);
  }
}
