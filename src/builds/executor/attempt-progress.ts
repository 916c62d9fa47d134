import type { ActiveState } from '../../core/build-state.ts';
import type { BuildPhase, ProgressEvent } from '../../core/progress.ts';

/** The states in which an attempt makes headway, in their order. */
export const WORK_STATES = [
  'pulling',
  'extracting',
  'building',
  'optimizing',
] as const satisfies readonly ActiveState[];
export type WorkState = (typeof WORK_STATES)[number];

const STATE_OF_PHASE: Readonly<Record<BuildPhase, WorkState>> = {
  resolve: 'pulling',
  pull: 'pulling',
  convert: 'extracting',
  write: 'building',
  verify: 'optimizing',
  commit: 'optimizing',
};

/** Share of the whole at which each state begins; the pull is what people wait for longest. */
const BEGINS_AT: Readonly<Record<WorkState, number>> = {
  pulling: 0,
  extracting: 50,
  building: 80,
  optimizing: 90,
};
const ENDS_AT: Readonly<Record<WorkState, number>> = {
  pulling: 50,
  extracting: 80,
  building: 90,
  optimizing: 99,
};
/** More layers than an image may have: what a worker claims must not fill our memory. */
const MAX_BLOBS = 1024;

/**
 * How far an attempt is: progress events in, states, percentages and durations out. Only ever goes
 * forward. Pure but for the clock it is given.
 */
export class AttemptProgress {
  readonly #monotonicMs: () => number;
  readonly #begunMs: Map<WorkState, number>;
  readonly #blobs = new Map<string, { done: number; total: number }>();
  #endedMs: number | undefined;
  #state: WorkState = 'pulling';
  #percent = 0;
  #pulledBytes = 0;

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
    this.#begunMs = new Map([['pulling', monotonicMs()]]);
  }

  get state(): WorkState {
    return this.#state;
  }

  /** 0 to 99: what is through says its state. */
  get percent(): number {
    return Math.floor(this.#percent);
  }

  /** Bytes that were fetched, without those that the store had. */
  get pulledBytes(): number {
    return this.#pulledBytes;
  }

  /** True when the event began a new state; states between are passed through at once. */
  add(event: ProgressEvent): boolean {
    if (event.kind === 'notice') return false;
    const state = STATE_OF_PHASE[event.phase];
    const began = this.advance(state);
    if (event.kind === 'bytes' && state === this.#state) this.#addBytes(event);
    return began;
  }

  /** Goes on to `state`, unless it is there or beyond already. */
  advance(state: WorkState): boolean {
    const from = WORK_STATES.indexOf(this.#state);
    const to = WORK_STATES.indexOf(state);
    if (to <= from) return false;
    const now = this.#monotonicMs();
    for (const passed of WORK_STATES.slice(from + 1, to + 1)) this.#begunMs.set(passed, now);
    this.#blobs.clear();
    this.#state = state;
    this.#percent = Math.max(this.#percent, BEGINS_AT[state]);
    return true;
  }

  /** Stops the clock of the last state. */
  end(): void {
    this.#endedMs ??= this.#monotonicMs();
  }

  /** Milliseconds in a state: 0 when it was never entered, until now while it lasts. */
  durationMs(state: WorkState): number {
    const begun = this.#begunMs.get(state);
    if (begun === undefined) return 0;
    const next = WORK_STATES[WORK_STATES.indexOf(state) + 1];
    const end = next === undefined ? undefined : this.#begunMs.get(next);
    return Math.round((end ?? this.#endedMs ?? this.#monotonicMs()) - begun);
  }

  #addBytes(event: Extract<ProgressEvent, { kind: 'bytes' }>): void {
    const known = this.#blobs.get(event.id);
    if (known === undefined && this.#blobs.size >= MAX_BLOBS) return;
    const done = Math.max(known?.done ?? 0, event.doneBytes);
    if (event.phase === 'pull' && event.state !== 'reused') {
      this.#pulledBytes += done - (known?.done ?? 0);
    }
    this.#blobs.set(event.id, { done, total: Math.max(done, event.totalBytes ?? 0) });
    let [doneSum, totalSum] = [0, 0];
    for (const blob of this.#blobs.values()) {
      doneSum += blob.done;
      totalSum += blob.total;
    }
    const [begin, end] = [BEGINS_AT[this.#state], ENDS_AT[this.#state]];
    const share = totalSum === 0 ? 0 : doneSum / totalSum;
    this.#percent = Math.max(this.#percent, begin + (end - begin) * share);
  }
}
