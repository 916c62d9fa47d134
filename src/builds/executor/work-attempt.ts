import { openLogWriter } from '../logs/log-writer.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import { AttemptJournal } from './attempt-journal.ts';
import { type AttemptOutcome, endAttempt, violationOf } from './end-attempt.ts';
import { readInputs } from './prepare-attempt.ts';
import { runAttempt } from './run-attempt.ts';
import { attemptSpan, noteOutcome, traceSteps } from './trace-attempt.ts';

/** A claim from beginning to end: tries to build, and writes what became of it. */
export async function workAttempt(attempt: Attempt, deps: AttemptDeps): Promise<AttemptOutcome> {
  using span = attemptSpan(attempt, deps);
  const outcome = await tryToBuild(attempt, traceSteps(deps, span));
  noteOutcome(span, outcome);
  return outcome;
}

async function tryToBuild(attempt: Attempt, deps: AttemptDeps): Promise<AttemptOutcome> {
  // Known before the log is opened, which must not show them; a fault here belongs into the log.
  const [prepared] = await Promise.allSettled([readInputs(attempt, deps)]);
  const mask = prepared.status === 'fulfilled' ? prepared.value.logins.secrets : [];
  await using journal = new AttemptJournal(attempt, {
    ...deps,
    openLines: () =>
      openLogWriter(deps.database, attempt.fenced, {
        mask,
        log: deps.log,
        onDropped: (bytes) => deps.metrics.logDropped(bytes),
      }),
  });
  try {
    if (prepared.status === 'rejected') throw prepared.reason;
    await runAttempt({ attempt, journal, ...prepared.value }, deps);
    return { kind: 'completed' };
  } catch (reason) {
    return await endAttempt(attempt, reason, journal, deps);
  }
}

/** Counts an attempt and says in the service log how it ended. */
export function reportOutcome(
  attempt: Attempt,
  outcome: AttemptOutcome,
  { metrics, log, monotonicMs }: AttemptDeps,
): void {
  const { buildId, tenantId, tenantName } = attempt.claim;
  const durationMs = Math.round(monotonicMs() - attempt.startedMs);
  const totalMs = durationMs + attempt.spentMs;
  const fields = {
    buildId,
    tenantId,
    tenant: tenantName,
    attempt: attempt.claim.attempt,
    durationMs,
  };
  metrics.attemptFinished(outcome.kind);
  switch (outcome.kind) {
    case 'completed':
    case 'cancelled':
      metrics.buildFinished({ status: outcome.kind, durationMs: totalMs });
      log.info({ ...fields, build_status: outcome.kind }, 'Build ended');
      return;
    case 'failed': {
      const { error } = outcome;
      const violation = violationOf(error);
      if (violation !== undefined) metrics.violation({ tenant: tenantName, ...violation });
      metrics.buildFinished({ status: 'failed', durationMs: totalMs });
      const line = { ...fields, build_status: 'failed', code: error.code };
      if (error.entry.fault === 'platform') log.error({ ...line, err: error }, 'Build ended');
      else log.warn(line, 'Build ended');
      return;
    }
    case 'retried':
      log.warn({ ...fields, code: outcome.error.code, err: outcome.error }, 'Attempt ended early');
      return;
    case 'lost':
      metrics.leaseLost();
      log.warn(fields, 'Claim lost');
  }
}
