import { BuilderdError } from '../../core/errors.ts';

/** Counts the streams of the process, so that followers cannot take all its memory and sockets. */
export class StreamPlaces {
  readonly #most: number;
  #open = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Throws `api.too_many`. Disposing twice counts once. */
  open(): Disposable {
    if (this.#open >= this.#most) {
      throw new BuilderdError(
        'api.too_many',
        `Cannot follow: this process already serves ${this.#most} streams`,
      );
    }
    this.#open += 1;
    let isOpen = true;
    return {
      [Symbol.dispose]: () => {
        if (isOpen) this.#open -= 1;
        isOpen = false;
      },
    };
  }
}
