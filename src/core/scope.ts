import { BuilderdError } from './errors.ts';

/** A signal for cleanup work: bounded, and independent of the one that was aborted. */
export function detachedSignal(timeoutMs: number): AbortSignal {
  return AbortSignal.timeout(timeoutMs);
}

/** Throws the abort's reason as `build.cancelled`, unless it is a BuilderdError already. */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (!signal?.aborted) return;
  if (signal.reason instanceof BuilderdError) throw signal.reason;
  throw new BuilderdError('build.cancelled', `Cannot ${doing}: it was cancelled`, {
    cause: signal.reason,
  });
}

type Undo = { readonly name: string; readonly run: () => void | Promise<void> };

/**
 * Undo list for work that acquires in several steps: the line after each acquisition registers
 * its undo. Disposal runs them in reverse; a failing undo never hides the fault that caused it
 * and never stops the others. `keep()` gives ownership away: nothing is undone.
 */
export class Scope implements AsyncDisposable {
  #undos: Undo[] = [];
  readonly #onUndoFault: (name: string, reason: unknown) => void;

  constructor(onUndoFault: (name: string, reason: unknown) => void) {
    this.#onUndoFault = onUndoFault;
  }

  defer(name: string, run: () => void | Promise<void>): void {
    this.#undos.push({ name, run });
  }

  keep(): void {
    this.#undos = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const undos = this.#undos.reverse();
    this.#undos = [];
    for (const { name, run } of undos) {
      try {
        await run();
      } catch (reason) {
        this.#onUndoFault(name, reason);
      }
    }
  }
}
