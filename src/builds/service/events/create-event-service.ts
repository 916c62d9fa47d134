import { BuilderdError } from '../../../core/errors.ts';
import { readEvents } from '../../../store/events/read-events.ts';
import type { TenantRef } from '../caller.ts';
import type { EventService, EventView } from '../event-service.ts';
import { EventHub } from './event-hub.ts';
import type { EventServiceOptions } from './event-deps.ts';
import { followEvents } from './follow-events.ts';
import { FollowerLimit } from './follower-limit.ts';
import { manageWebhooks } from './manage-webhooks.ts';

const MAX_READ = 500;
const FOLLOWERS = { perTenant: 100, total: 1000 };

/** The EventService over a database: any number of processes may have one. */
export function createEventService(options: EventServiceOptions): EventService {
  const { database } = options;
  const hub = new EventHub(database);
  const followers = new FollowerLimit(options.followers ?? FOLLOWERS);

  async function* follow(
    tenant: TenantRef,
    from: { readonly after: number; readonly signal: AbortSignal },
  ): AsyncGenerator<readonly EventView[], void, void> {
    using scope = new DisposableStack();
    scope.use(followers.enter(tenant.id));
    yield* followEvents(database, hub, tenant.id, from);
  }

  return {
    ...manageWebhooks(options),
    follow(tenant, { after, signal }) {
      // At once, so that a refusal can still be an answer of its own; the place is taken later.
      followers.check(tenant.id);
      return follow(tenant, { after: cursorOf(after), signal });
    },
    read: async (tenant, { after, limit }) => {
      if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_READ) {
        throw new BuilderdError(
          'api.invalid',
          `Cannot give ${limit} events: want 1 to ${MAX_READ}`,
        );
      }
      return readEvents(database, tenant.id, { after: cursorOf(after), limit });
    },
  };
}

function cursorOf(after: number): number {
  if (Number.isSafeInteger(after) && after >= 0) return after;
  throw new BuilderdError(
    'api.invalid',
    'Cannot read events after this: want a whole number from 0',
  );
}
