import { createHmac, randomBytes } from 'node:crypto';

export const SIGNATURE_HEADER = 'builderd-signature';

export function newWebhookSecret(): string {
  return `whsec_${randomBytes(32).toString('base64url')}`;
}

/**
 * `t=<unix seconds>,v1=<hex>`: HMAC-SHA256 with the whole secret as the key over the time, a dot
 * and the body. The receiver compares in constant time and refuses what is older than minutes.
 */
export function signWebhook(secret: string, at: Date, body: string): string {
  const seconds = Math.floor(at.getTime() / 1000);
  const mac = createHmac('sha256', secret).update(`${seconds}.${body}`, 'utf8').digest('hex');
  return `t=${seconds},v1=${mac}`;
}
