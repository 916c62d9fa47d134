import { BuilderdError } from '../../core/errors.ts';

/** Steps of comparing, half a minute's at most. An honest image and filter take a thousandth of it. */
const MAX_STEPS = 4_000_000_000;
/** Places in patterns, remembered for all directories together. */
const MAX_PLACES = 4_000_000;

/** What matching one image's names against one filter may cost; both are chosen by a stranger. */
export class MatchBudget {
  #steps = 0;
  #places = 0;
  readonly #maxSteps: number;

  constructor(maxSteps = MAX_STEPS) {
    this.#maxSteps = maxSteps;
  }

  get steps(): number {
    return this.#steps;
  }

  spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.#maxSteps) throw tooMuch(`more than ${this.#maxSteps} steps`);
  }

  remember(places: number): void {
    this.#places += places;
    if (this.#places > MAX_PLACES)
      throw tooMuch('too many directories match many patterns in part');
  }
}

function tooMuch(fact: string): BuilderdError {
  return new BuilderdError(
    'archive.limit',
    `Cannot match the image's names against the patterns: it takes ${fact}`,
  );
}
