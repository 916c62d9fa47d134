import type { BuildId, TenantId } from '../../core/ids.ts';
import type { CredentialSource } from '../../runtime/registry/credentials.ts';
import type { ImageRepository } from '../ports.ts';

export interface AttemptKey {
  readonly tenantId: TenantId;
  readonly buildId: BuildId;
  readonly attempt: number;
}

/** Something that keeps what an attempt pulled from being collected. */
export interface AttemptLease extends AttemptKey {
  readonly namespace: string;
  readonly id: string;
}

export interface AttemptImagesOptions extends AttemptKey {
  /** The tenant's and the build's own, never the host's. */
  readonly credentials: CredentialSource;
  /** How long a crash may pin what was pulled. */
  readonly leaseTtlMs: number;
  readonly onCleanupFault: (step: string, reason: unknown) => void;
}

interface Call {
  readonly signal: AbortSignal;
}

/** containerd, as the executor uses it: each tenant in its own namespace, each attempt on its own lease. */
export interface AttemptImages {
  /** Costs nothing until it is used; may be used once the daemon is back. */
  forAttempt(options: AttemptImagesOptions): ImageRepository;
  /** Throws `runtime.*` while the daemon does not answer. */
  ping(call: Call): Promise<void>;
  /** Leases of all attempts, of this and of earlier executors. */
  leases(call: Call): Promise<readonly AttemptLease[]>;
  /** A lease that is gone is a no-op. */
  release(lease: AttemptLease, call: Call): Promise<void>;
  /** Lets go of images that no build used for so long; gives their number. */
  forgetUnused(options: Call & { readonly unusedMs: number }): Promise<number>;
}
