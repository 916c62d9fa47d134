import { EVENT_TYPES, type EventType } from '../../core/event-types.ts';
import { BuilderdError } from '../../core/errors.ts';
import {
  readInteger,
  readJson,
  readOneOf,
  readOptionalInteger,
  readOptionalText,
  readText,
} from '../row-values.ts';

export interface WebhookRecord {
  readonly id: string;
  readonly url: string;
  readonly events: readonly EventType[];
  readonly active: boolean;
  /** Why builderd stopped sending. */
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

/** The list of types in `webhooks.events`. */
export function parseWebhookEvents(text: unknown): readonly EventType[] {
  const list = readJson(text, 'webhooks.events');
  if (!Array.isArray(list)) {
    throw new BuilderdError('internal', 'Cannot read webhooks.events from the database: no list');
  }
  return list.map((item: unknown) => readOneOf(EVENT_TYPES, item, 'webhooks.events'));
}

/** A row of `webhooks`, with the number of deliveries that wait as `pending`. */
export function parseWebhookRow(row: { readonly [column: string]: unknown }): WebhookRecord {
  const reason = readOptionalText(row['disabled_reason'], 'webhooks.disabled_reason');
  const lastAt = readOptionalInteger(row['last_at'], 'webhooks.last_at');
  const status = readOptionalInteger(row['last_status'], 'webhooks.last_status');
  const error = readOptionalText(row['last_error'], 'webhooks.last_error');
  return {
    id: readText(row['id'], 'webhooks.id'),
    url: readText(row['url'], 'webhooks.url'),
    events: parseWebhookEvents(row['events']),
    active: readInteger(row['active'], 'webhooks.active') !== 0,
    ...(reason === undefined ? {} : { disabledReason: reason }),
    createdAt: readInteger(row['created_at'], 'webhooks.created_at'),
    pendingDeliveries: readInteger(row['pending'], 'pending'),
    droppedDeliveries: readInteger(row['dropped'], 'webhooks.dropped'),
    ...(lastAt === undefined
      ? {}
      : {
          lastDelivery: {
            at: lastAt,
            ...(status === undefined ? {} : { status }),
            ...(error === undefined ? {} : { error }),
          },
        }),
  };
}
