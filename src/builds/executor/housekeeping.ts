import { type BuilderdError, isBuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { detachedSignal, throwIfAborted } from '../../core/scope.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import { collectGarbage, removeDue } from '../../store/artifacts/collect-garbage.ts';
import type { Grace } from '../../store/artifacts/condemned-rows.ts';
import { type ExpiredBuild, findExpiredBuilds } from '../../store/artifacts/expired-builds.ts';
import { deleteBuild } from '../../store/builds/delete-build.ts';
import type { Database } from '../../store/database.ts';
import { pruneEvents } from '../../store/events/prune-events.ts';
import { expireIdempotencyKeys } from '../../store/retention/expire-idempotency-keys.ts';
import { findDeleted, purgeBuild } from '../../store/retention/purge-builds.ts';
import { pruneTokens } from '../../store/tokens/prune-tokens.ts';
import type { AttemptImages } from './attempt-images.ts';

/**
 * How long things are kept that have no setting of their own. The audit log and daily usage are kept
 * for ever.
 */
export interface Keep {
  /** STORAGE_RETENTION_DAYS when the operator gives it: for tenants without days of their own. */
  readonly buildDays?: number;
  readonly idempotencyKeyMs: number;
  /** Also deliveries to webhooks and violations of quotas. */
  readonly eventMs: number;
  /** Tokens that were revoked or have ended. */
  readonly tokenMs: number;
  /**
   * Bytes in the store that no row names: longer than a build takes from its commit to its row, and
   * time to notice that an older database was restored.
   */
  readonly unnamedMs: number;
  /** Bytes of deleted builds: they count as used until they are gone. Time to end a download. */
  readonly releasedMs: number;
  /** Images in containerd that no build used. */
  readonly imageMs: number;
}

const DAY_MS = 86_400_000;
export const KEEP: Keep = {
  idempotencyKeyMs: DAY_MS,
  eventMs: 30 * DAY_MS,
  tokenMs: 30 * DAY_MS,
  unnamedMs: DAY_MS,
  releasedMs: 15 * 60_000,
  imageMs: 7 * DAY_MS,
};

interface HousekeepingDeps {
  readonly database: Database;
  readonly log: Log;
}

interface Call {
  readonly signal: AbortSignal;
}

/** Small enough that nobody waits long for the lock. */
const BATCH = 50;
const BATCH_LIMIT_MS = 30_000;

/**
 * Forgets what has served its time: builds beyond their retention, idempotency keys, events, bytes.
 * What cannot be forgotten is told in the log, and keeps nothing else from it.
 */
export async function forgetOld(
  deps: HousekeepingDeps & { readonly artifacts: ArtifactStore; readonly images: AttemptImages },
  keep: Keep,
  call: Call,
): Promise<void> {
  const { database, artifacts, images } = deps;
  const say = (count: number, message: string, bytes?: number): void => {
    if (count > 0) deps.log.info({ count, ...(bytes === undefined ? {} : { bytes }) }, message);
  };
  const chores: Readonly<Record<string, () => Promise<void>>> = {
    'old builds': async () => say(await expireBuilds(deps, keep, call), 'Builds expired'),
    'old keys': async () => {
      const olderThanMs = keep.idempotencyKeyMs;
      say(await expireIdempotencyKeys(database, { olderThanMs }), 'Old keys forgotten');
    },
    'old events': async () => {
      const { events } = await pruneEvents(database, { olderThanMs: keep.eventMs });
      say(events, 'Old events forgotten');
    },
    'old tokens': async () => {
      const tokens = await pruneTokens(database, { olderThanMs: keep.tokenMs });
      say(tokens, 'Tokens that ended long ago forgotten');
    },
    'unused artifacts': async () => {
      const options = { ...graceOf(keep), ...call, onBadCopy: badCopy(deps) };
      const { removed, removedBytes } = await collectGarbage(database, artifacts, options);
      say(removed, 'Unused artifacts removed', removedBytes);
    },
    'unused images': async () => {
      const unusedMs = keep.imageMs;
      say(await images.forgetUnused({ unusedMs, ...call }), 'Unused images forgotten');
    },
  };
  for (const [step, work] of Object.entries(chores)) await attend(deps, step, work, call);
}

/** The end of what was deleted: rows at once, bytes when their time is over. To be called often. */
export async function removeDeleted(
  deps: HousekeepingDeps & { readonly artifacts: ArtifactStore },
  keep: Keep,
  call: Call,
): Promise<void> {
  const { database, artifacts, log } = deps;
  await attend(deps, 'deleted builds', async () => void (await purgeDeleted(deps, call)), call);
  const work = async (): Promise<void> => {
    let [count, bytes] = [0, 0];
    const options = { ...graceOf(keep), ...call, onBadCopy: badCopy(deps) };
    for await (const { storedBytes } of removeDue(database, artifacts, options)) {
      count += 1;
      bytes += storedBytes;
    }
    if (count > 0) log.info({ count, bytes }, 'Deleted artifacts removed');
  };
  await attend(deps, 'deleted artifacts', work, call);
}

export function graceOf({ unnamedMs, releasedMs }: Keep): Grace {
  return { graceMs: unnamedMs, releasedGraceMs: Math.min(releasedMs, unnamedMs) };
}

async function attend(
  { log }: HousekeepingDeps,
  step: string,
  work: () => Promise<void>,
  { signal }: Call,
): Promise<void> {
  throwIfAborted(signal, 'clean up');
  try {
    await work();
  } catch (err) {
    throwIfAborted(signal, 'clean up');
    log.warn({ err, step }, 'Cleanup failed');
  }
}

function badCopy({ log }: HousekeepingDeps): (name: string, reason: BuilderdError) => void {
  return (name, err) => log.error({ err, step: name }, 'Cannot remove a stored copy');
}

/** Deletes what is beyond its retention, as its tenant would; gives how many. */
export async function expireBuilds(
  deps: HousekeepingDeps,
  { buildDays }: Keep,
  { signal }: Call,
): Promise<number> {
  const { database } = deps;
  const defaults = buildDays === undefined ? {} : { retentionDays: buildDays };
  const onBadRow = badRow(deps, 'expire builds');
  let expired = 0;
  for (let after: ExpiredBuild | undefined; ; ) {
    throwIfAborted(signal, 'forget old builds');
    const page = { limit: BATCH, defaults, onBadRow, ...(after === undefined ? {} : { after }) };
    const builds = await findExpiredBuilds(database, page);
    for (const { tenantId, buildId } of builds) {
      expired += await eachAlone(onBadRow, buildId, () =>
        database.transaction((tx) => deleteBuild(tx, tenantId, buildId, { force: false }), {
          signal: detachedSignal(BATCH_LIMIT_MS),
        }),
      );
    }
    after = builds.at(-1);
    if (builds.length < BATCH) return expired;
  }
}

/** Removes the rows of deleted builds that no executor works on; their bytes are then unnamed. */
export async function purgeDeleted(deps: HousekeepingDeps, { signal }: Call): Promise<number> {
  const { database, log } = deps;
  const onBadRow = badRow(deps, 'purge deleted builds');
  let purged = 0;
  for (let after: string | undefined = ''; after !== undefined; ) {
    throwIfAborted(signal, 'purge deleted builds');
    const page = await findDeleted(database, { limit: BATCH, after });
    for (const { id, reason } of page.unreadable) onBadRow(id, reason);
    for (const build of page.builds) {
      purged += await eachAlone(onBadRow, build.id, () =>
        database.transaction((tx) => purgeBuild(tx, build), {
          signal: detachedSignal(BATCH_LIMIT_MS),
        }),
      );
    }
    after = page.next;
  }
  if (purged > 0) log.info({ count: purged }, 'Deleted builds purged');
  return purged;
}

type OnBadRow = (id: string, reason: BuilderdError) => void;

function badRow({ log }: HousekeepingDeps, step: string): OnBadRow {
  return (buildId, err) => log.error({ buildId, step, err }, 'Cannot read a row: passed over');
}

/** 1 when it was done. A row that cannot be read is told of; a database that is away is thrown. */
async function eachAlone(
  onBadRow: OnBadRow,
  id: string,
  work: () => Promise<unknown>,
): Promise<number> {
  try {
    await work();
    return 1;
  } catch (reason) {
    if (!isBuilderdError(reason, 'internal')) throw reason;
    onBadRow(id, reason);
    return 0;
  }
}
