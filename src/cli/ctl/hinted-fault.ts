import type { ErrorCode, ErrorEntry } from '../../core/error-catalogue.ts';
import { BuilderdError, type ErrorDetails } from '../../core/errors.ts';

/** A fault whose next step names the very build or file that it is about. */
export class HintedFault extends BuilderdError {
  readonly #hint: string;

  constructor(
    code: ErrorCode,
    message: string,
    { hint, details = {} }: { readonly hint: string; readonly details?: ErrorDetails },
  ) {
    super(code, message, { details });
    this.#hint = hint;
  }

  override get entry(): ErrorEntry {
    return { ...super.entry, hint: this.#hint };
  }
}
