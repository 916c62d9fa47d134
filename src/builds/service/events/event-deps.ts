import type { EgressAllowList } from '../../../egress/allow-list.ts';
import type { Database } from '../../../store/database.ts';
import type { SealedSecrets } from '../../../store/secrets/sealed-secrets.ts';

export interface EventServiceOptions {
  readonly database: Database;
  readonly secrets: SealedSecrets;
  /** WEBHOOK_ALLOW_HTTP. */
  readonly allowHttp: boolean;
  /** EGRESS_ALLOW: a URL with an address that is not dialled anyway is refused at once. */
  readonly egressAllow: EgressAllowList;
  /** Followers of events at once, for a tenant and for this process. */
  readonly followers?: { readonly perTenant: number; readonly total: number };
}
