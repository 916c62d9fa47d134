import type { TenantId, TenantName } from '../../core/ids.ts';

/** Who calls: made by authentication from a verified credential, never from a header alone. */
export interface Caller {
  /** For the audit log: `token:<id>`, `jwt:<issuer>/<subject>`, `development`, `local`. */
  readonly actor: string;
  readonly role: 'operator' | 'tenant' | 'reader';
  /** Names that it may act for; operators may act for all. */
  readonly tenants: 'all' | ReadonlySet<TenantName>;
  /** When its credential ends: no token that it makes lasts longer. Absent: it does not end. */
  readonly expiresAt?: number;
  readonly requestId: string;
  /** Address of the peer, behind trusted proxies the one that they name. */
  readonly address: string;
}

/** The tenant that one request acts for, looked up and allowed for its caller. */
export interface TenantRef {
  readonly id: TenantId;
  readonly name: TenantName;
}
