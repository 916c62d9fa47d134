import type { Digest } from '../../core/digest.ts';
import type { TenantId } from '../../core/ids.ts';
import type { StoredBlob } from './artifact-store.ts';

/** What a store asks the rows, so that the same bytes of a tenant are kept once. */
export interface BlobIndex {
  /** Whether the tenant has a copy of this size: only then it is worth to hash before encrypting. */
  hasSize(
    tenantId: TenantId,
    sizeBytes: number,
    call: { readonly signal: AbortSignal },
  ): Promise<boolean>;
  /** The copy that a row names as present. It may be unreferenced soon, but not removed soon. */
  findPresent(
    tenantId: TenantId,
    digest: Digest,
    call: { readonly signal: AbortSignal },
  ): Promise<StoredBlob | undefined>;
}
