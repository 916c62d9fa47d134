import { inspect } from 'node:util';

const SHOWN = '***';

/** A secret on its way through the program: shown as `***` by printing, JSON and templates alike. */
export class SecretText {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The one way to the value: for the call that needs it, never for a message or a row. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return SHOWN;
  }

  toJSON(): string {
    return SHOWN;
  }

  [inspect.custom](): string {
    return SHOWN;
  }
}
