import type { LogLimits } from './log-limits.ts';

export type DropReason = 'rate' | 'backlog' | 'size';

/**
 * Lets bytes through at a rate. Once it has closed it stays closed until a quarter of a second's
 * worth may pass again: a flood gives a few gaps with much between them, not a gap after each line.
 */
export class DropGate {
  readonly #limits: LogLimits;
  readonly #nowMs: () => number;
  #tokens: number;
  #filledAtMs: number;
  #closed = false;

  constructor(limits: LogLimits, nowMs: () => number) {
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#tokens = limits.bytesPerSecond;
    this.#filledAtMs = nowMs();
  }

  /** Why nothing may pass now, or undefined. */
  refusal(queuedBytes: number): DropReason | undefined {
    this.#fill();
    const { bytesPerSecond, queueBytes } = this.#limits;
    if (this.#tokens <= 0) this.#closed = true;
    else if (this.#tokens >= bytesPerSecond / 4) this.#closed = false;
    if (this.#closed) return 'rate';
    return queuedBytes >= queueBytes ? 'backlog' : undefined;
  }

  /** What passed; the last entry may take more than there was. */
  spend(bytes: number): void {
    this.#tokens -= bytes;
  }

  #fill(): void {
    const now = this.#nowMs();
    const { bytesPerSecond } = this.#limits;
    const gained = ((now - this.#filledAtMs) / 1000) * bytesPerSecond;
    this.#tokens = Math.min(bytesPerSecond, this.#tokens + gained);
    this.#filledAtMs = now;
  }
}
