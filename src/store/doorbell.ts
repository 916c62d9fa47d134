import type { DoorbellTopic } from './database.ts';

export const TOPICS = ['queue', 'control', 'logs', 'events'] as const satisfies DoorbellTopic[];

/** How long a listener waits when nobody rings: rings may be lost, work may not. */
const DEFAULT_POLL_MS = 1000;

interface Listener {
  readonly call: () => void;
  readonly pollMs: number;
  timer: NodeJS.Timeout | undefined;
  isDue: boolean;
}

/** The listeners of one process. What comes from other processes is struck here too. */
export class Doorbell implements Disposable {
  readonly #listeners = new Map<DoorbellTopic, Set<Listener>>();

  get isUsed(): boolean {
    return [...this.#listeners.values()].some((set) => set.size > 0);
  }

  listen(topic: DoorbellTopic, call: () => void, pollMs = DEFAULT_POLL_MS): Disposable {
    const listener: Listener = { call, pollMs, timer: undefined, isDue: false };
    const set = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, set.add(listener));
    wait(listener);
    return {
      [Symbol.dispose]: () => {
        clearTimeout(listener.timer);
        set.delete(listener);
      },
    };
  }

  /** Calls the topic's listeners in the next turn of the event loop, once for many strikes. */
  strike(topic: DoorbellTopic): void {
    const set = this.#listeners.get(topic);
    for (const listener of set ?? []) {
      if (listener.isDue) continue;
      listener.isDue = true;
      setImmediate(() => {
        listener.isDue = false;
        if (set?.has(listener) !== true) return;
        clearTimeout(listener.timer);
        wait(listener);
        listener.call();
      });
    }
  }

  strikeAll(): void {
    for (const topic of TOPICS) this.strike(topic);
  }

  [Symbol.dispose](): void {
    for (const set of this.#listeners.values()) {
      for (const { timer } of set) clearTimeout(timer);
      set.clear();
    }
  }
}

function wait(listener: Listener): void {
  listener.timer = setTimeout(() => {
    wait(listener);
    listener.call();
  }, listener.pollMs);
}
