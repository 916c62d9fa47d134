import type { Digest } from '../../core/digest.ts';
import type { TenantId } from '../../core/ids.ts';
import type { VerifyOptions } from './verify-blob.ts';

interface OfBlob {
  readonly tenantId: TenantId;
  readonly digest: Digest;
}

/** One thing that rows and bytes disagree about. */
export type StoreFinding =
  /** The bytes of an artifact are gone, or are not what the row says: lost until built again. */
  | (OfBlob & { readonly kind: 'missing' })
  | (OfBlob & { readonly kind: 'corrupt'; readonly fact: string })
  /** Noted as damaged before, and found sound. */
  | (OfBlob & { readonly kind: 'healed' })
  /** An artifact of a build for whose bytes there is no row. */
  | (OfBlob & { readonly kind: 'unbacked' })
  /** A row for bytes that no artifact has. */
  | (OfBlob & { readonly kind: 'unreferenced' })
  /** Bytes for which there is no row at all: an interrupted commit, or a lost row. */
  | (OfBlob & { readonly kind: 'unnamed' })
  /** A row that is not what builderd writes; left alone. */
  | { readonly kind: 'unreadable'; readonly name: string; readonly fact: string }
  /** Not written by builderd; left alone. */
  | { readonly kind: 'foreign'; readonly name: string }
  /** The tenant's account says another sum than its blobs. */
  | {
      readonly kind: 'miscounted';
      readonly tenantId: TenantId;
      readonly countedBytes: number;
      readonly storedBytes: number;
    };

export interface CheckOptions extends VerifyOptions {
  /**
   * Writes down what was found: downloads of damaged bytes are refused, accounts are put right, what
   * nobody can reach is condemned. No stored byte is removed or changed.
   */
  readonly repair: boolean;
  readonly onFinding: (finding: StoreFinding) => void;
}
