import type { ActiveState } from '../../core/build-state.ts';
import type { Clock } from '../../core/clock.ts';
import { isBuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { ProgressEvent } from '../../core/progress.ts';
import { formatBytes, formatDuration } from '../../core/units.ts';
import type { Database } from '../../store/database.ts';
import { enterState } from '../../store/queue/enter-state.ts';
import { reportProgress } from '../../store/queue/report-progress.ts';
import type { LogWriter } from '../logs/log-writer.ts';
import type { LogLevel } from '../service/views.ts';
import type { Attempt } from './attempt.ts';
import { AttemptProgress, WORK_STATES, type WorkState } from './attempt-progress.ts';
import { DONE, persist } from './persist.ts';
import { Bell, repeat } from './repeat.ts';

export interface JournalDeps {
  readonly database: Database;
  /** The build's log, for its tenant. Opened again when something is said after it was closed. */
  readonly openLines: () => LogWriter;
  /** Takes out what became secret after the log was opened. */
  readonly cover: (text: string) => string;
  /** The service's, for the operator. */
  readonly log: Log;
  readonly clock: Clock;
  readonly monotonicMs: () => number;
}

const PROGRESS_EVERY_MS = 1000;

const COMPONENTS: Readonly<Record<WorkState, string>> = {
  pulling: 'puller',
  extracting: 'extractor',
  building: 'builder',
  optimizing: 'builder',
};

const STEPS: Readonly<Record<ActiveState, string>> = {
  pulling: 'Pulling the image',
  extracting: 'Merging the layers',
  building: 'Writing the root filesystem',
  optimizing: 'Storing the artifacts',
  cleaning: 'Cleaning up',
};

/**
 * What an attempt says about itself: states and progress into its row, lines into its log. States
 * are written in order and at once, progress at most every second.
 */
export class AttemptJournal implements AsyncDisposable {
  readonly progress: AttemptProgress;
  readonly #attempt: Attempt;
  readonly #deps: JournalDeps;
  readonly #bell = new Bell();
  readonly #end = new AbortController();
  readonly #loop: Promise<void>;
  /** Writes queue here, so that no state overtakes another. */
  #writes: Promise<void> = Promise.resolve();
  #lines: LogWriter | undefined;
  #written: ActiveState = 'pulling';
  #writtenPercent = 0;

  constructor(attempt: Attempt, deps: JournalDeps) {
    this.#attempt = attempt;
    this.#deps = deps;
    this.progress = new AttemptProgress(deps.monotonicMs);
    this.#loop = repeat(() => this.#inTurn(() => this.#catchUp()), {
      everyMs: PROGRESS_EVERY_MS,
      signal: this.#end.signal,
      bell: this.#bell,
      onFault: (reason) => this.#writeFailed(reason),
    });
  }

  /** For whoever does the work; cheap, never throws. */
  readonly onProgress = (event: ProgressEvent): void => {
    if (this.#end.signal.aborted || this.#written === 'cleaning') return;
    if (this.progress.add(event)) this.#bell.ring();
    this.#tell(event);
  };

  note(level: LogLevel, component: string, message: string): void {
    this.#lines ??= this.#deps.openLines();
    const time = this.#deps.clock.now().getTime();
    this.#lines.write({ time, level, component, message: this.#deps.cover(message) });
  }

  /**
   * All that was said is in the database when this returns. A database that is away is waited for
   * until the signal. Throws `build.lost`, `database.unavailable`.
   */
  async closeLines(call: { readonly signal: AbortSignal }): Promise<void> {
    const lines = this.#lines;
    this.#lines = undefined;
    await lines?.close(call);
  }

  /** Returns once the row says so. */
  enter(state: WorkState): Promise<void> {
    this.progress.advance(state);
    return this.#inTurn(() => this.#catchUp());
  }

  /** The attempt ended early: what it holds is being given back. Never hides why it ended. */
  async clean(): Promise<void> {
    this.progress.end();
    try {
      await this.#inTurn(() => this.#write('cleaning'));
    } catch (reason) {
      this.#writeFailed(reason);
    }
  }

  undoFailed(step: string, reason: unknown): void {
    const { buildId, tenantId, attempt } = this.#attempt.claim;
    this.#deps.log.warn({ buildId, tenantId, attempt, step, err: reason }, 'Cleanup step failed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#loop;
    await this.#writes.catch((reason: unknown) => this.#writeFailed(reason));
    await this.#lines?.[Symbol.asyncDispose]();
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    // Whoever queued the write before heard of its fault.
    const turn = this.#writes.then(work, work);
    this.#writes = turn;
    return turn;
  }

  async #catchUp(): Promise<void> {
    if (this.#written === 'cleaning') return;
    const { state, percent } = this.progress;
    const from = WORK_STATES.indexOf(this.#written);
    for (const passed of WORK_STATES.slice(from + 1, WORK_STATES.indexOf(state) + 1)) {
      await this.#write(passed);
    }
    if (percent === this.#writtenPercent) return;
    await persist(this.#deps.database, this.#attempt, {
      body: (tx) => reportProgress(tx, this.#attempt.fenced, { progress: percent }),
      landed: () => DONE,
    });
    this.#writtenPercent = percent;
  }

  async #write(state: ActiveState): Promise<void> {
    const { percent } = this.progress;
    await persist(this.#deps.database, this.#attempt, {
      body: (tx) =>
        enterState(tx, this.#attempt.fenced, { state, step: STEPS[state], progress: percent }),
      landed: (now) => (now === state ? DONE : undefined),
    });
    this.#written = state;
    this.#writtenPercent = percent;
    this.#deps.database.ring('events');
  }

  /** In the background nobody waits for the write: the work has to hear that its claim is gone. */
  #writeFailed(reason: unknown): void {
    if (isBuilderdError(reason, 'build.lost')) {
      this.#attempt.stop('lost');
      return;
    }
    const { buildId, tenantId, attempt } = this.#attempt.claim;
    this.#deps.log.warn({ buildId, tenantId, attempt, err: reason }, 'Cannot write progress');
  }

  #tell(event: ProgressEvent): void {
    if (event.kind === 'bytes') return;
    const component = COMPONENTS[this.progress.state];
    if (event.kind === 'notice') {
      this.note(event.level === 'warning' ? 'warn' : 'info', component, event.message);
      return;
    }
    if (event.state === 'started') return;
    const detail = event.detail === undefined ? '' : `: ${event.detail}`;
    this.note('debug', component, `Finished ${event.phase}${detail}`);
  }
}

/** `Pulled 12.0 MiB in 3.1 s`. */
export function pulledText(bytes: number, durationMs: number): string {
  return `Pulled ${formatBytes(bytes)} in ${formatDuration(durationMs)}`;
}
