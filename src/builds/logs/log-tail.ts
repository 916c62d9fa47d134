import type { LogHead } from '../../store/logs/log-heads.ts';

/** How far one log has come, and who waits for more. */
export class LogTail {
  #head: LogHead;
  #waiting = new Set<() => void>();
  followers = 0;

  constructor(head: LogHead) {
    this.#head = head;
  }

  get entries(): number {
    return this.#head.entries;
  }

  /** No entry follows those that are counted. */
  get isOver(): boolean {
    return this.#head.over;
  }

  /** A look at the database; undefined when the build is gone. An older look changes nothing. */
  advance(head: LogHead | undefined): void {
    const over = head === undefined || head.over;
    const entries = Math.max(this.entries, head?.entries ?? 0);
    if (entries === this.entries && over === this.isOver) return;
    this.#head = { entries, over: over || this.isOver };
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const wake of waiting) wake();
  }

  /** Until there is more than before, or the signal. */
  async next(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => {
      signal.removeEventListener('abort', wake);
      this.#waiting.delete(wake);
      resolve();
    };
    this.#waiting.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await promise;
  }
}
