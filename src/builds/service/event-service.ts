import type { EventType } from '../../core/event-types.ts';
import type { BuildId } from '../../core/ids.ts';
import type { Call } from './build-service.ts';
import type { Caller, TenantRef } from './caller.ts';

export { EVENT_TYPES, type EventType } from '../../core/event-types.ts';

export interface EventView {
  /** Counts from 1 without gaps within the tenant; the cursor. */
  readonly seq: number;
  readonly type: EventType;
  readonly buildId?: BuildId;
  readonly at: number;
  readonly data: Readonly<Record<string, string | number | boolean>>;
}

export interface WebhookView {
  readonly id: string;
  readonly url: string;
  readonly events: readonly EventType[];
  readonly active: boolean;
  /** Why builderd stopped sending: the receiver answered 410, or nothing in hours. */
  readonly disabledReason?: string;
  readonly createdAt: number;
  /** Deliveries that wait, for their first try or another. */
  readonly pendingDeliveries: number;
  /** Given up because too many waited. */
  readonly droppedDeliveries: number;
  readonly lastDelivery?: {
    readonly at: number;
    readonly status?: number;
    readonly error?: string;
  };
}

export interface EventService {
  read(
    tenant: TenantRef,
    options: Call & { readonly after: number; readonly limit: number },
  ): Promise<readonly EventView[]>;
  /** Batches from `after` on, as they come, until the signal. */
  follow(
    tenant: TenantRef,
    options: Call & { readonly after: number },
  ): AsyncIterable<readonly EventView[]>;
  createWebhook(
    caller: Caller,
    tenant: TenantRef,
    input: { readonly url: string; readonly events: readonly EventType[] },
    call: Call,
  ): Promise<{ readonly webhook: WebhookView /** Shown once. */; readonly secret: string }>;
  listWebhooks(tenant: TenantRef, call: Call): Promise<readonly WebhookView[]>;
  /** Sends to it again what happens from now on; no change to one that is active. */
  enableWebhook(caller: Caller, tenant: TenantRef, id: string, call: Call): Promise<WebhookView>;
  deleteWebhook(caller: Caller, tenant: TenantRef, id: string, call: Call): Promise<void>;
}
