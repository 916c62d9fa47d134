import type { TenantId } from '../../../core/ids.ts';
import type { Database } from '../../../store/database.ts';
import { readEvents } from '../../../store/events/read-events.ts';
import type { EventView } from '../event-service.ts';
import type { EventHub } from './event-hub.ts';

const BATCH = 200;

/**
 * Batches after `after` until the signal. Numbers have no gaps and are given in the order of
 * commits, so the last one seen is all that must be remembered; the hub is asked to watch before
 * the first read, so that nothing falls between.
 */
export async function* followEvents(
  database: Database,
  hub: EventHub,
  tenantId: TenantId,
  { after, signal }: { readonly after: number; readonly signal: AbortSignal },
): AsyncGenerator<readonly EventView[], void, void> {
  using bell = hub.follow(tenantId);
  let cursor = after;
  let committed = after;
  while (!signal.aborted) {
    const batch = await readEvents(database, tenantId, { after: cursor, limit: BATCH });
    const last = batch.at(-1);
    // What was there before this read and is not in it, retention has taken.
    cursor = last?.seq ?? Math.max(cursor, committed);
    if (last !== undefined) yield batch;
    if (batch.length < BATCH) committed = await bell.beyond(cursor, signal);
  }
}
