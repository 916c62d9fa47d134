import type { TenantId } from '../../../core/ids.ts';
import type { Database } from '../../../store/database.ts';
import { readEvents } from '../../../store/events/read-events.ts';
import type { EventView } from '../event-service.ts';

const BATCH = 200;
const POLL_MS = 1000;

/**
 * Batches after `after` until the signal. Numbers have no gaps and are given in the order of
 * commits, so the last one seen is all that must be remembered; the bell is listened to before the
 * first read, so that nothing falls between.
 */
export async function* followEvents(
  database: Database,
  tenantId: TenantId,
  { after, signal }: { readonly after: number; readonly signal: AbortSignal },
): AsyncGenerator<readonly EventView[], void, void> {
  let cursor = after;
  let hasRung = true;
  let wake = (): void => undefined;
  const ring = (): void => {
    hasRung = true;
    wake();
  };
  using scope = new DisposableStack();
  scope.use(database.listen('events', ring, { pollMs: POLL_MS }));
  signal.addEventListener('abort', ring, { once: true });
  scope.defer(() => signal.removeEventListener('abort', ring));
  while (!signal.aborted) {
    if (!hasRung) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      continue;
    }
    hasRung = false;
    for (;;) {
      const batch = await readEvents(database, tenantId, { after: cursor, limit: BATCH });
      const last = batch.at(-1);
      if (last === undefined) break;
      cursor = last.seq;
      yield batch;
      if (signal.aborted) return;
    }
  }
}
