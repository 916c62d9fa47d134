import type { TenantName } from '../../../core/ids.ts';
import type { EventView } from '../event-service.ts';

/** What a receiver gets: the event as the API shows it, and which delivery this is. */
export function webhookBody(deliveryId: string, tenant: TenantName, event: EventView): string {
  return JSON.stringify({
    id: deliveryId,
    type: event.type,
    tenant,
    seq: event.seq,
    ...(event.buildId === undefined ? {} : { buildId: event.buildId }),
    at: new Date(event.at).toISOString(),
    data: event.data,
  });
}
