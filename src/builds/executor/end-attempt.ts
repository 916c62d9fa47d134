import type { BuildState } from '../../core/build-state.ts';
import type { ErrorCode } from '../../core/error-catalogue.ts';
import { asBuilderdError, BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { detachedSignal } from '../../core/scope.ts';
import { QUOTA_TYPES } from '../../core/quotas.ts';
import { formatDuration } from '../../core/units.ts';
import { endBuild } from '../../store/queue/end-build.ts';
import { retryBuild, type RetryOutcome } from '../../store/queue/retry-build.ts';
import { type NewViolation, recordViolation } from '../../store/violations/record-violation.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import type { AttemptJournal } from './attempt-journal.ts';
import { DONE, persist } from './persist.ts';

export type AttemptOutcome =
  | { readonly kind: 'completed' }
  | { readonly kind: 'failed'; readonly error: BuilderdError }
  | { readonly kind: 'cancelled' }
  /** Goes back to the queue. */
  | { readonly kind: 'retried'; readonly error: BuilderdError }
  /** The claim is somebody else's: nothing was written. */
  | { readonly kind: 'lost' };

type Ending = Exclude<AttemptOutcome, { kind: 'completed' | 'lost' }>;

const FIRST_DELAY_MS = 2000;
const MAX_DELAY_MS = 60_000;
const MAX_FULL_DELAY_MS = 5 * 60_000;
const LOG_LIMIT_MS = 10_000;

/**
 * What becomes of a build whose attempt ended early. A wish to cancel and the deadline decide before
 * the fault that they caused; faults of the platform that may pass are tried again; the rest is the
 * end. A build that is handed back lost nothing by its own fault: that attempt is not counted.
 */
export function endingOf({ claim, stopReason }: Attempt, reason: unknown): AttemptOutcome {
  const error = asBuilderdError(reason, 'run the build');
  switch (stopReason) {
    case 'lost':
      return { kind: 'lost' };
    case 'cancel':
      return { kind: 'cancelled' };
    case 'deadline':
      return {
        kind: 'failed',
        error: timeUp(claim, reason),
      };
    case 'handback':
      return { kind: 'retried', error };
    case undefined:
      if (error.code === 'build.lost') return { kind: 'lost' };
      return error.entry.fault === 'platform' && error.entry.retryable
        ? { kind: 'retried', error }
        : { kind: 'failed', error };
  }
}

function timeUp({ timeoutMs }: Attempt['claim'], cause: unknown): BuilderdError {
  const seconds = Math.round(timeoutMs / 1000);
  return new BuilderdError(
    'build.timeout',
    `Cannot finish the build: its ${formatDuration(timeoutMs)} are up`,
    { cause, details: { quotaType: 'build_time', current: seconds, limit: seconds } },
  );
}

/** Writes the end of an attempt into its row. Everything it held was given back before. */
export async function endAttempt(
  attempt: Attempt,
  reason: unknown,
  journal: AttemptJournal,
  deps: AttemptDeps,
): Promise<AttemptOutcome> {
  const ending = endingOf(attempt, reason);
  if (ending.kind === 'lost' || ending.kind === 'completed') return ending;
  try {
    journal.note(ending.kind === 'failed' ? 'error' : 'warn', 'service', textOf(ending, attempt));
    await closeLog(journal);
    const written = await write(attempt, ending, deps);
    for (const topic of ['events', 'logs', 'queue'] as const) deps.database.ring(topic);
    return written;
  } catch (fault) {
    if (isBuilderdError(fault, 'build.lost')) return { kind: 'lost' };
    throw fault;
  }
}

/** The end of the log is worth less than that the build ends: its caller waits for that. */
async function closeLog(journal: AttemptJournal): Promise<void> {
  try {
    await journal.closeLines({ signal: detachedSignal(LOG_LIMIT_MS) });
  } catch (reason) {
    if (isBuilderdError(reason, 'build.lost')) throw reason;
    journal.undoFailed('write the end of the log', reason);
  }
}

async function write(
  attempt: Attempt,
  ending: Ending,
  { database, retryDelayMs = backOffMs }: AttemptDeps,
): Promise<AttemptOutcome> {
  const { fenced, claim } = attempt;
  if (ending.kind === 'retried') {
    const isHandback = attempt.stopReason === 'handback';
    const retry = {
      error: ending.error,
      delayMs: isHandback ? 0 : retryDelayMs(claim.attempt, ending.error.code),
      counted: !isHandback,
    };
    const became = await persist<RetryOutcome>(database, attempt, {
      body: (tx) => retryBuild(tx, fenced, retry),
      landed: (state) => (isRetryOutcome(state) ? { value: state } : undefined),
    });
    // It was tried often enough, its time is up, or somebody wants it cancelled.
    if (became === 'pending') return ending;
    return became === 'failed' ? { kind: 'failed', error: ending.error } : { kind: 'cancelled' };
  }
  await persist(database, attempt, {
    body: async (tx) => {
      if (ending.kind === 'cancelled') return endBuild(tx, fenced, { state: 'cancelled' });
      await endBuild(tx, fenced, { state: 'failed', error: ending.error });
      return noteViolation(tx, attempt, ending.error);
    },
    landed: (state) => (state === ending.kind ? DONE : undefined),
  });
  return ending;
}

function isRetryOutcome(state: BuildState | undefined): state is RetryOutcome {
  return state === 'pending' || state === 'failed' || state === 'cancelled';
}

async function noteViolation(
  tx: Parameters<typeof recordViolation>[0],
  { claim }: Attempt,
  error: BuilderdError,
): Promise<void> {
  const violation = violationOf(error);
  if (violation === undefined) return;
  const { tenantId, buildId } = claim;
  await recordViolation(tx, { tenantId, buildId, ...violation });
}

/** The quota that a fault is about, if it is about one. */
export function violationOf({
  details,
  message,
}: BuilderdError): Pick<NewViolation, 'quotaType' | 'current' | 'limit' | 'message'> | undefined {
  const { current, limit } = details;
  const quotaType = QUOTA_TYPES.find((type) => type === details['quotaType']);
  if (quotaType === undefined || typeof current !== 'number' || typeof limit !== 'number') {
    return undefined;
  }
  return { quotaType, current, limit, message };
}

/** Doubles with each attempt; up to half of it by chance, so that what failed together parts. */
function backOffMs(attempt: number, code: ErrorCode): number {
  // Room on a disk comes when builds end or somebody makes it: not within seconds.
  const first = code === 'storage.full' ? MAX_DELAY_MS : FIRST_DELAY_MS;
  const most = code === 'storage.full' ? MAX_FULL_DELAY_MS : MAX_DELAY_MS;
  const full = Math.min(most, first * 2 ** (attempt - 1));
  return Math.round(full * (0.5 + Math.random() / 2));
}

function textOf(ending: Ending, { claim, stopReason }: Attempt): string {
  switch (ending.kind) {
    case 'cancelled':
      return 'The build was cancelled';
    case 'failed':
      return `${ending.error.message} (${ending.error.code})`;
    case 'retried':
      return stopReason === 'handback'
        ? 'This executor is stopping: another one takes the build'
        : `Attempt ${claim.attempt} failed: ${ending.error.message} (${ending.error.code})`;
  }
}
