import type { Log } from '../../core/log.ts';
import { detachedSignal, throwIfAborted } from '../../core/scope.ts';
import type { Database, Db } from '../../store/database.ts';
import { pruneEvents } from '../../store/events/prune-events.ts';
import { expireBuilds } from '../../store/retention/expire-builds.ts';
import { expireIdempotencyKeys } from '../../store/retention/expire-idempotency-keys.ts';
import { findDeleted, purgeBuild } from '../../store/retention/purge-builds.ts';
import { listTenants } from '../../store/tenants/tenant-rows.ts';

export interface Keep {
  /** STORAGE_RETENTION_DAYS when the operator gives it: the longest for any tier. */
  readonly buildDays?: number;
  readonly idempotencyKeyMs: number;
  readonly eventMs: number;
}

export const KEEP: Keep = { idempotencyKeyMs: 24 * 3_600_000, eventMs: 30 * 86_400_000 };

interface HousekeepingDeps {
  readonly database: Database;
  readonly log: Log;
}

/** Small enough that nobody waits long for the lock. */
const BATCH = 50;
const BATCH_LIMIT_MS = 30_000;
const MAX_TENANTS = 1_000_000;

/** Forgets what has served its time: retention by tier, idempotency keys, events. */
export async function forgetOld(
  { database, log }: HousekeepingDeps,
  keep: Keep,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  for (const { id, quotas } of await listTenants(database, { limit: MAX_TENANTS })) {
    const days = Math.min(quotas.retentionDays, keep.buildDays ?? Infinity);
    const expired = await inBatches(database, signal, (tx) =>
      expireBuilds(tx, id, { days, limit: BATCH }),
    );
    if (expired > 0) log.info({ tenantId: id, count: expired }, 'Builds expired');
  }
  const keys = await expireIdempotencyKeys(database, { olderThanMs: keep.idempotencyKeyMs });
  const { events } = await pruneEvents(database, { olderThanMs: keep.eventMs });
  if (keys + events > 0) log.info({ count: keys + events }, 'Old keys and events forgotten');
}

/** Removes the rows of deleted builds; their bytes go with the next collection after a grace period. */
export async function purgeDeleted(
  { database, log }: HousekeepingDeps,
  { signal }: { readonly signal: AbortSignal },
): Promise<number> {
  let purged = 0;
  for (;;) {
    throwIfAborted(signal, 'purge deleted builds');
    const builds = await findDeleted(database, { limit: BATCH });
    for (const build of builds) {
      await database.transaction((tx) => purgeBuild(tx, build), {
        signal: detachedSignal(BATCH_LIMIT_MS),
      });
    }
    purged += builds.length;
    if (builds.length < BATCH) break;
  }
  if (purged > 0) log.info({ count: purged }, 'Deleted builds purged');
  return purged;
}

async function inBatches(
  database: Database,
  signal: AbortSignal,
  batch: (tx: Db) => Promise<number>,
): Promise<number> {
  let total = 0;
  for (;;) {
    throwIfAborted(signal, 'forget old builds');
    const done = await database.transaction(batch, { signal: detachedSignal(BATCH_LIMIT_MS) });
    total += done;
    if (done < BATCH) return total;
  }
}
