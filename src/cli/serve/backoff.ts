/** How long to wait before a role is started again. A role that ran for a while starts over. */
export class Backoff {
  #failures = 0;
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  next({ ranMs }: { readonly ranMs: number }): number {
    if (ranMs >= STABLE_MS) this.#failures = 0;
    const full = Math.min(MAX_MS, FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    // Up to a fifth less, so that several hosts do not come back at the same instant.
    return Math.round(full * (1 - this.#random() / 5));
  }
}

const FIRST_MS = 250;
const MAX_MS = 10_000;
const STABLE_MS = 30_000;
