import { EVENT_TYPES, type EventType } from '../../core/event-types.ts';
import { BuilderdError } from '../../core/errors.ts';
import { readJson, readOneOf } from '../row-values.ts';

/** The list of types in `webhooks.events`. */
export function parseWebhookEvents(text: unknown): readonly EventType[] {
  const list = readJson(text, 'webhooks.events');
  if (!Array.isArray(list)) {
    throw new BuilderdError('internal', 'Cannot read webhooks.events from the database: no list');
  }
  return list.map((item: unknown) => readOneOf(EVENT_TYPES, item, 'webhooks.events'));
}
