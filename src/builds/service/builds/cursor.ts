import { createHmac, timingSafeEqual } from 'node:crypto';
import { BuilderdError } from '../../../core/errors.ts';
import { type BuildId, parseBuildId, type TenantId } from '../../../core/ids.ts';
import { canonicalJson } from './canonical-json.ts';

/** What a cursor is good for: one tenant's list with one set of filters. */
export interface CursorScope {
  readonly tenantId: TenantId;
  readonly filter: unknown;
}

const ID_BYTES = 16;
const MAC_BYTES = 16;
const TEXT = /^[A-Za-z0-9_-]{43}$/;

/** An opaque text that says "after this build"; only this service can make one. */
export function signCursor(signingKey: Uint8Array, scope: CursorScope, last: BuildId): string {
  const id = Buffer.from(last.replaceAll('-', ''), 'hex');
  return Buffer.concat([id, macOf(signingKey, scope, id)]).toString('base64url');
}

/** Throws `api.invalid` for a text that is no cursor, was forged, or is of another list. */
export function openCursor(signingKey: Uint8Array, scope: CursorScope, cursor: string): BuildId {
  const bytes = TEXT.test(cursor) ? Buffer.from(cursor, 'base64url') : Buffer.alloc(0);
  const id = bytes.subarray(0, ID_BYTES);
  const mac = bytes.subarray(ID_BYTES);
  if (mac.length !== MAC_BYTES || !timingSafeEqual(mac, macOf(signingKey, scope, id))) {
    throw new BuilderdError(
      'api.invalid',
      'Cannot use the cursor: it was not given for this list, with these filters',
    );
  }
  const hex = id.toString('hex');
  return parseBuildId(hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'));
}

function macOf(signingKey: Uint8Array, scope: CursorScope, id: Buffer): Buffer {
  return createHmac('sha256', signingKey)
    .update('builderd cursor\0')
    .update(canonicalJson(scope))
    .update('\0')
    .update(id)
    .digest()
    .subarray(0, MAC_BYTES);
}
