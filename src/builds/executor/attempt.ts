import type { ErrorCode } from '../../core/error-catalogue.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Claim, Fenced } from '../../store/queue/claim.ts';

/** Why an attempt ends before its work does. The first reason stays, but `lost` beats all others. */
export type StopReason =
  /** Somebody wants the build cancelled. */
  | 'cancel'
  /** The build's time is up. */
  | 'deadline'
  /** The claim is, or may be, somebody else's by now: nothing may be written any more. */
  | 'lost'
  /** This executor ends; another one takes the build. */
  | 'handback';

export interface LeaseTimes {
  /** How long the database keeps a claim after a renewal. */
  readonly leaseMs: number;
  /** How much earlier the attempt gives up by itself. */
  readonly marginMs: number;
  /** Never goes back, and counts the time that the host slept. */
  readonly monotonicMs: () => number;
}

/**
 * One claim while this process works on it, and the one place that stops it. It knows by its own
 * clock until when the claim surely holds: after a pause of the process or of the database, the
 * work stops before another executor may begin it.
 */
export class Attempt {
  readonly claim: Claim;
  readonly fenced: Fenced;
  readonly startedMs: number;
  /** What earlier attempts took of the build's time. */
  readonly spentMs: number;
  readonly #times: LeaseTimes;
  readonly #control = new AbortController();
  readonly #deadlineMs: number;
  #stop: StopReason | undefined;
  #metFullDisk = false;
  #holdsUntilMs: number;

  /**
   * `askedMs` is when the claim was asked for: its lease cannot have begun earlier. `leftMs` is
   * what the build has left of its time.
   */
  constructor(
    claim: Claim,
    { owner, askedMs, leftMs }: { owner: string; askedMs: number; leftMs: number },
    times: LeaseTimes,
  ) {
    this.claim = claim;
    this.fenced = { buildId: claim.buildId, attempt: claim.attempt, owner };
    this.startedMs = times.monotonicMs();
    this.spentMs = Math.max(0, claim.timeoutMs - leftMs);
    this.#deadlineMs = askedMs + leftMs;
    this.#times = times;
    this.#holdsUntilMs = askedMs + times.leaseMs - times.marginMs;
  }

  /** Ends all work of the attempt; its reason is the typed error that the work then throws. */
  get signal(): AbortSignal {
    return this.#control.signal;
  }

  get stopReason(): StopReason | undefined {
    return this.#stop;
  }

  get isOverdue(): boolean {
    return this.#times.monotonicMs() >= this.#deadlineMs;
  }

  stop(reason: StopReason): void {
    if (this.#stop === undefined || reason === 'lost') this.#stop = reason;
    this.#control.abort(stopError(reason));
  }

  /** It ended because this host's disk was full: other builds would fare no better now. */
  get metFullDisk(): boolean {
    return this.#metFullDisk;
  }

  noteFullDisk(): void {
    this.#metFullDisk = true;
  }

  /** A renewal that was asked for at `askedMs` succeeded. */
  renewed(askedMs: number): void {
    this.#holdsUntilMs = askedMs + this.#times.leaseMs - this.#times.marginMs;
  }

  /** Whether the claim surely holds. Once it did not, it never does again. */
  get holds(): boolean {
    if (this.#times.monotonicMs() >= this.#holdsUntilMs) this.stop('lost');
    return this.#stop !== 'lost';
  }

  /** Before every durable effect. Throws why the attempt has to end. */
  requireHeld(): void {
    if (this.holds) this.#control.signal.throwIfAborted();
    else throw stopError('lost');
  }
}

const STOP_ERRORS = {
  cancel: ['build.cancelled', 'it was cancelled'],
  deadline: ['build.timeout', 'its time is up'],
  lost: ['build.lost', 'its claim is lost'],
  handback: ['service.unavailable', 'this executor is stopping'],
} as const satisfies Record<StopReason, readonly [ErrorCode, string]>;

function stopError(reason: StopReason): BuilderdError {
  const [code, fact] = STOP_ERRORS[reason];
  return new BuilderdError(code, `Cannot finish the build: ${fact}`);
}
