/** Can be rung from anywhere; whoever waits on it wakes once, also for a ring that came before. */
export class Bell {
  #rung = false;
  #waiting: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#waiting?.();
  }

  /** Ends with a ring, after `ms`, or with the signal. One waiter at a time. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#rung || signal.aborted) {
      this.#rung = false;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting = resolve;
    const timer = setTimeout(resolve, ms);
    const onAbort = (): void => resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      this.#waiting = undefined;
      this.#rung = false;
    }
  }
}

export interface RepeatOptions {
  readonly everyMs: number;
  readonly signal: AbortSignal;
  /** Hears what `work` throws; the loop goes on. */
  readonly onFault: (reason: unknown) => void;
  /** Wakes the loop early. */
  readonly bell?: Bell;
}

/** Runs `work` again and again, never two at a time, until the signal. Never throws. */
export async function repeat(work: () => Promise<void>, options: RepeatOptions): Promise<void> {
  const bell = options.bell ?? new Bell();
  while (!options.signal.aborted) {
    try {
      await work();
    } catch (reason) {
      if (!options.signal.aborted) options.onFault(reason);
    }
    await bell.wait(options.everyMs, options.signal);
  }
}
