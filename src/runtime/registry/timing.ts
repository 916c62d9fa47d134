import { setTimeout as delay } from 'node:timers/promises';
import { throwIfAborted } from '../../core/scope.ts';

/** Clock, waiting and chance, as parameters. */
export interface Timing {
  /** Milliseconds since 1970. */
  now(): number;
  /** Throws `build.cancelled` when the signal is aborted. */
  sleep(ms: number, call: { readonly signal: AbortSignal }): Promise<void>;
  /** 0 … 1 */
  random(): number;
}

export const SYSTEM_TIMING: Timing = {
  now: () => Date.now(),
  async sleep(ms, { signal }) {
    try {
      await delay(ms, undefined, { signal });
    } catch (reason) {
      throwIfAborted(signal, 'wait for the registry');
      throw reason;
    }
  },
  random: () => Math.random(),
};
