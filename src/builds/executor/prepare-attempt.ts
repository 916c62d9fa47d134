import type { CredentialSource } from '../../runtime/registry/credentials.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import type { AttemptJournal } from './attempt-journal.ts';
import { type AttemptPlan, planAttempt } from './plan-attempt.ts';
import type { AttemptSecrets } from './attempt-secrets.ts';
import { openRegistryLogins } from './registry-logins.ts';

export interface AttemptInputs {
  readonly plan: AttemptPlan;
  readonly logins: CredentialSource;
}

/** An attempt with all that its work begins with. */
export interface PreparedAttempt extends AttemptInputs {
  readonly attempt: Attempt;
  readonly journal: AttemptJournal;
}

/** What is built, and what may be logged in with. Reads the database only. */
export async function readInputs(
  { claim }: Attempt,
  secrets: AttemptSecrets,
  deps: AttemptDeps,
): Promise<AttemptInputs> {
  const plan = planAttempt(claim.spec, claim.quotas, deps.defaults);
  const logins = await openRegistryLogins(
    deps.database,
    deps.secrets,
    claim,
    plan.registry,
    (texts) => secrets.add(texts),
  );
  return { plan, logins };
}
