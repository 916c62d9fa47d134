import { openLogWriter } from '../logs/log-writer.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import { AttemptJournal } from './attempt-journal.ts';
import { AttemptSecrets } from './attempt-secrets.ts';
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

async function tryToBuild(attempt: Attempt, given: AttemptDeps): Promise<AttemptOutcome> {
  const secrets = new AttemptSecrets();
  const deps: AttemptDeps = {
    ...given,
    // A reload counts for what runs, too.
    get encryptAll() {
      return given.encryptAll;
    },
    log: secrets.watch(given.log),
  };
  // Known before the log is opened, which must not show them; a fault here belongs into the log.
  const [prepared] = await Promise.allSettled([readInputs(attempt, secrets, deps)]);
  await using journal = new AttemptJournal(attempt, {
    ...deps,
    cover: (text) => secrets.cover(text),
    openLines: () =>
      openLogWriter(deps.database, attempt.fenced, {
        mask: secrets.texts,
        log: deps.log,
        onDropped: (bytes) => deps.metrics.logDropped(bytes),
      }),
  });
  try {
    if (prepared.status === 'rejected') throw prepared.reason;
    await runAttempt({ attempt, journal, ...prepared.value }, deps);
    return { kind: 'completed' };
  } catch (reason) {
    return await endAttempt(attempt, secrets.coverFault(reason), journal, deps);
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
