import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { type BuildId, parseBuildId } from '../../core/ids.ts';
import type { Database, Db } from '../database.ts';
import { readInteger, readText } from '../row-values.ts';
import { failUnreadable, type UnreadableBuild } from './fail-unreadable.ts';
import { parseHeldRow } from './hold-build.ts';
import { releaseBuild, type RetryOutcome } from './retry-build.ts';

export interface ReapOptions {
  /** Beyond the end of a lease: its holder ends itself before, and clocks need not agree. */
  readonly graceMs: number;
  /** Executors known to be dead: their claims end at once. */
  readonly deadOwners?: readonly string[];
  /** Hears of builds whose rows cannot be read: they have failed by then. */
  readonly onBadBuild?: (build: UnreadableBuild) => void;
  readonly signal: AbortSignal;
}

export interface Reaped {
  readonly buildId: BuildId;
  readonly attempt: number;
  readonly owner: string;
  readonly host: string;
  readonly outcome: RetryOutcome;
}

const AT_ONCE = 200;

/**
 * Takes builds from executors that have stopped answering: back to the queue, or to their end.
 * Safe on several hosts at once: each build is taken by one of them. Rings `queue` and `events`.
 */
export async function reapExpired(
  database: Database,
  options: ReapOptions,
): Promise<readonly Reaped[]> {
  const expired = await isTaken(database, options)
    .select('id')
    .orderBy('id')
    .limit(AT_ONCE)
    .execute();
  const reaped: Reaped[] = [];
  for (const { id } of expired) {
    const one = await reapAlone(database, id, options);
    if (one !== undefined) reaped.push(one);
  }
  if (reaped.length > 0) {
    database.ring('queue');
    database.ring('events');
  }
  return reaped;
}

/** A row that cannot be read must not keep the builds after it from being taken back. */
async function reapAlone(
  database: Database,
  id: string,
  options: ReapOptions,
): Promise<Reaped | undefined> {
  try {
    return await database.transaction((tx) => reapOne(tx, parseBuildId(id), options), options);
  } catch (reason) {
    const isUnreadable =
      isBuilderdError(reason, 'internal') || isBuilderdError(reason, 'api.not_found');
    if (!isUnreadable) throw reason;
    const build = { id, reason };
    await database.transaction(async (tx) => {
      const row = await lockTaken(tx, id, options).executeTakeFirst();
      if (row !== undefined) await failUnreadable(tx, build);
    }, options);
    options.onBadBuild?.(build);
    return undefined;
  }
}

async function reapOne(
  tx: Db,
  buildId: BuildId,
  options: ReapOptions,
): Promise<Reaped | undefined> {
  const row = await lockTaken(tx, buildId, options)
    .select(['attempt', 'owner', 'host', 'lease_until'])
    .select(['tenant_id', 'state', 'progress', 'deadline_at', 'cancel_requested_at'])
    .select(tx.now.as('now'))
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const attempt = readInteger(row.attempt, 'builds.attempt');
  const owner = readText(row.owner, 'builds.owner');
  const error = new BuilderdError(
    'build.lost',
    'Cannot finish the build: the executor that had it stopped answering',
  );
  const outcome = await releaseBuild(tx, {
    fenced: { buildId, attempt, owner },
    held: parseHeldRow(row),
    retry: { delayMs: 0, error },
    outcome: 'lost',
  });
  return { buildId, attempt, owner, host: row.host ?? '', outcome };
}

/** Nothing when somebody else is at it. */
function lockTaken(tx: Db, id: string, options: ReapOptions) {
  const query = isTaken(tx, options).select('id').where('id', '=', id);
  return tx.dialect === 'postgres' ? query.forUpdate().skipLocked() : query;
}

function isTaken(db: Db, { graceMs, deadOwners = [] }: ReapOptions) {
  return db.k
    .selectFrom('builds')
    .where('owner', 'is not', null)
    .where((eb) =>
      eb.or([
        eb('lease_until', '<', eb(db.now, '-', graceMs)),
        ...(deadOwners.length === 0 ? [] : [eb('owner', 'in', [...deadOwners])]),
      ]),
    );
}
