/** What happens to a tenant and its builds; public names, on the event stream and in webhooks. */
export const EVENT_TYPES = [
  'build.created',
  'build.state',
  'build.completed',
  'build.failed',
  'build.cancelled',
  'build.deleted',
  'quota.exceeded',
  'tenant.updated',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

export function parseEventType(raw: unknown): EventType | undefined {
  return EVENT_TYPES.find((type) => type === raw);
}
