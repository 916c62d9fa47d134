import { throwIfAborted } from '../../core/scope.ts';

/** One holder for each key at a time, in order of asking. Waiting ends with the caller's signal. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(
    key: string,
    call: { readonly signal: AbortSignal },
    work: () => Promise<T>,
  ): Promise<T> {
    const before = this.#tails.get(key);
    const turn = Promise.withResolvers<void>();
    const tail = Promise.all([before, turn.promise]).then(() => undefined);
    this.#tails.set(key, tail);
    try {
      if (before !== undefined) await untilAborted(before, call.signal);
      return await work();
    } finally {
      turn.resolve();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

async function untilAborted(wait: Promise<void>, signal: AbortSignal): Promise<void> {
  throwIfAborted(signal, 'wait for another pull of the same blob');
  const aborted = Promise.withResolvers<void>();
  const onAbort = (): void => aborted.resolve();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([wait, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
  throwIfAborted(signal, 'wait for another pull of the same blob');
}
