import type { SecretPlace } from '../../../store/secrets/sealed-secrets.ts';

/** Where a webhook's signing secret belongs. */
export function webhookPlace(tenantId: string, webhookId: string): SecretPlace {
  return { table: 'webhooks', tenantId, rowId: webhookId };
}
