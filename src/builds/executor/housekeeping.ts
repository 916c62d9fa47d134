import type { Log } from '../../core/log.ts';
import { detachedSignal, throwIfAborted } from '../../core/scope.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import { collectGarbage } from '../../store/artifacts/collect-garbage.ts';
import { findExpiredBuilds } from '../../store/artifacts/expired-builds.ts';
import { deleteBuild } from '../../store/builds/delete-build.ts';
import type { Database } from '../../store/database.ts';
import { pruneEvents } from '../../store/events/prune-events.ts';
import { expireIdempotencyKeys } from '../../store/retention/expire-idempotency-keys.ts';
import { findDeleted, purgeBuild } from '../../store/retention/purge-builds.ts';
import { pruneTokens } from '../../store/tokens/prune-tokens.ts';
import type { AttemptImages } from './attempt-images.ts';

export interface Keep {
  /** STORAGE_RETENTION_DAYS when the operator gives it: for tenants without days of their own. */
  readonly buildDays?: number;
  readonly idempotencyKeyMs: number;
  readonly eventMs: number;
  /** Tokens that were revoked or have ended. */
  readonly tokenMs: number;
  /** Bytes that no row names, before they are removed: longer than a build and than a download. */
  readonly unnamedMs: number;
  /** Images in containerd that no build used. */
  readonly imageMs: number;
}

const DAY_MS = 86_400_000;
export const KEEP: Keep = {
  idempotencyKeyMs: DAY_MS,
  eventMs: 30 * DAY_MS,
  tokenMs: 30 * DAY_MS,
  unnamedMs: DAY_MS,
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

/** Forgets what has served its time: builds beyond their retention, idempotency keys, events, bytes. */
export async function forgetOld(
  deps: HousekeepingDeps & { readonly artifacts: ArtifactStore; readonly images: AttemptImages },
  keep: Keep,
  call: Call,
): Promise<void> {
  const { database, artifacts, images, log } = deps;
  const builds = await expireBuilds(deps, keep, call);
  if (builds > 0) log.info({ count: builds }, 'Builds expired');
  const keys = await expireIdempotencyKeys(database, { olderThanMs: keep.idempotencyKeyMs });
  const { events } = await pruneEvents(database, { olderThanMs: keep.eventMs });
  if (keys + events > 0) log.info({ count: keys + events }, 'Old keys and events forgotten');
  const tokens = await pruneTokens(database, { olderThanMs: keep.tokenMs });
  if (tokens > 0) log.info({ count: tokens }, 'Tokens that ended long ago forgotten');
  const { removed, removedBytes } = await collectGarbage(database, artifacts, {
    graceMs: keep.unnamedMs,
    ...call,
  });
  if (removed > 0) log.info({ count: removed, bytes: removedBytes }, 'Unused artifacts removed');
  const forgotten = await images.forgetUnused({ unusedMs: keep.imageMs, ...call });
  if (forgotten > 0) log.info({ count: forgotten }, 'Unused images forgotten');
}

/** Deletes what is beyond its retention, as its tenant would; gives how many. */
export async function expireBuilds(
  { database }: HousekeepingDeps,
  { buildDays }: Keep,
  { signal }: Call,
): Promise<number> {
  const defaults = buildDays === undefined ? {} : { retentionDays: buildDays };
  for (let expired = 0; ; ) {
    throwIfAborted(signal, 'forget old builds');
    const builds = await findExpiredBuilds(database, { limit: BATCH, defaults });
    for (const { tenantId, buildId } of builds) {
      await database.transaction((tx) => deleteBuild(tx, tenantId, buildId, { force: false }), {
        signal: detachedSignal(BATCH_LIMIT_MS),
      });
    }
    expired += builds.length;
    if (builds.length < BATCH) return expired;
  }
}

/** Removes the rows of deleted builds that no executor works on; their bytes are then unnamed. */
export async function purgeDeleted(
  { database, log }: HousekeepingDeps,
  { signal }: Call,
): Promise<number> {
  for (let purged = 0; ; ) {
    throwIfAborted(signal, 'purge deleted builds');
    const builds = await findDeleted(database, { limit: BATCH });
    for (const build of builds) {
      await database.transaction((tx) => purgeBuild(tx, build), {
        signal: detachedSignal(BATCH_LIMIT_MS),
      });
    }
    purged += builds.length;
    if (builds.length === BATCH) continue;
    if (purged > 0) log.info({ count: purged }, 'Deleted builds purged');
    return purged;
  }
}
