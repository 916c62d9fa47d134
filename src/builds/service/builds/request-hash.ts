import { createHmac } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';
import type { BuildSpec } from '../../build-spec.ts';

/**
 * What an idempotency key stands for. Two requests that say the same in another order hash alike.
 * Keyed, because a request may hold a password that a plain hash would let one guess; the key's
 * name comes first, so that a hash of before a rotation is known for one.
 */
export function requestHash(
  key: { readonly id: string; readonly bytes: Uint8Array },
  spec: BuildSpec,
  wireConfig: string | undefined,
): string {
  const hash = createHmac('sha256', key.bytes)
    .update('builderd request\0')
    .update(canonicalJson({ spec, wireConfig: wireConfig ?? '' }))
    .digest('hex');
  return `${key.id}:${hash}`;
}
