import type { Static } from 'typebox';
import { Type } from '../../core/schema/schema-builders.ts';
import {
  EVENT_TYPES,
  type EventView,
  type WebhookView,
} from '../../builds/service/event-service.ts';
import { Count, presentTime, Time } from './field-schemas.ts';

export const EventSchema = Type.Object(
  {
    seq: Type.Integer({
      minimum: 1,
      description: 'Counts without gaps within the tenant; the cursor.',
    }),
    type: Type.Enum([...EVENT_TYPES]),
    buildId: Type.Optional(Type.String()),
    at: Time('When.'),
    data: Type.Record(Type.String(), Type.Unknown()),
  },
  { $id: 'Event' },
);

export function presentEvent({ at, ...same }: EventView): Static<typeof EventSchema> {
  return { ...same, at: presentTime(at) };
}

export const WebhookSchema = Type.Object(
  {
    id: Type.String(),
    url: Type.String(),
    events: Type.Array(Type.Enum([...EVENT_TYPES])),
    active: Type.Boolean(),
    disabledReason: Type.Optional(Type.String({ description: 'Why nothing is sent any more.' })),
    createdAt: Time('When it was made.'),
    pendingDeliveries: Count('Deliveries that wait, for their first try or another.'),
    droppedDeliveries: Count('Deliveries that were given up because 1000 newer ones waited.'),
    lastDelivery: Type.Optional(
      Type.Object({
        at: Time('When.'),
        status: Type.Optional(Type.Integer()),
        error: Type.Optional(Type.String()),
      }),
    ),
  },
  { $id: 'Webhook' },
);

export function presentWebhook(view: WebhookView): Static<typeof WebhookSchema> {
  const { lastDelivery, createdAt, events, ...same } = view;
  return {
    ...same,
    events: [...events],
    createdAt: presentTime(createdAt),
    ...(lastDelivery === undefined
      ? {}
      : { lastDelivery: { ...lastDelivery, at: presentTime(lastDelivery.at) } }),
  };
}
