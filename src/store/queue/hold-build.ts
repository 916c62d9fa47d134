import { BUILD_STATES, type BuildState } from '../../core/build-state.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readInteger, readOneOf, readOptionalInteger, readText } from '../row-values.ts';
import type { BuildRow } from '../schema.ts';
import type { Fenced } from './claim.ts';

/** What the queue needs to know of a build that is held. */
export interface HeldBuild {
  readonly tenantId: string;
  readonly state: BuildState;
  readonly progress: number;
  readonly deadlineAt: number | undefined;
  readonly cancelRequested: boolean;
  readonly now: number;
}

/**
 * Locks the row of a build until the transaction ends, if the attempt holds it. The fence: throws
 * `build.lost` for an attempt that was taken over, ended or, with `liveLease`, has outlived its lease.
 */
export async function holdBuild(
  tx: Db,
  fenced: Fenced,
  { liveLease = false }: { readonly liveLease?: boolean } = {},
): Promise<HeldBuild> {
  const query = tx.k
    .selectFrom('builds')
    .select(['tenant_id', 'state', 'progress', 'deadline_at', 'cancel_requested_at', 'lease_until'])
    .select(tx.now.as('now'))
    .where('id', '=', fenced.buildId)
    .where('attempt', '=', fenced.attempt)
    .where('owner', '=', fenced.owner);
  // SQLite's transactions are alone from their first statement on.
  const row = await (tx.dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst();
  if (row === undefined) throw lost(fenced, 'another attempt holds it, or none');
  const held = parseHeldRow(row);
  const leaseUntil = readOptionalInteger(row.lease_until, 'builds.lease_until') ?? 0;
  if (liveLease && leaseUntil <= held.now) throw lost(fenced, 'its lease has ended');
  return held;
}

type HeldColumn = 'tenant_id' | 'state' | 'progress' | 'deadline_at' | 'cancel_requested_at';

export function parseHeldRow(
  row: Readonly<Record<HeldColumn & keyof BuildRow, unknown>> & { readonly now: unknown },
): HeldBuild {
  return {
    tenantId: readText(row.tenant_id, 'builds.tenant_id'),
    state: readOneOf(BUILD_STATES, row.state, 'builds.state'),
    progress: readInteger(row.progress, 'builds.progress'),
    deadlineAt: readOptionalInteger(row.deadline_at, 'builds.deadline_at'),
    cancelRequested: row.cancel_requested_at !== null,
    now: readInteger(row.now, 'now'),
  };
}

function lost({ buildId, attempt }: Fenced, fact: string): BuilderdError {
  return new BuilderdError(
    'build.lost',
    `Cannot write for attempt ${attempt} of build ${buildId}: ${fact}`,
  );
}
