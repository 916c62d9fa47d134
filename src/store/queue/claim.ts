import type { BuildId, TenantId, TenantName } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';

/** Under what an attempt writes: all three must still be those of the row. */
export interface Fenced {
  readonly buildId: BuildId;
  /** Counts the claims of the build: no two attempts share one. */
  readonly attempt: number;
  /** Of one executor process. */
  readonly owner: string;
}

/** A build that this executor holds until its lease ends. */
export interface Claim {
  readonly buildId: BuildId;
  readonly tenantId: TenantId;
  readonly tenantName: TenantName;
  readonly attempt: number;
  /** Number of an id range on the host: no other live build of the host has it. */
  readonly slot: number;
  /** The request's JSON, read but not checked; undefined when the row held none. */
  readonly spec: unknown;
  readonly timeoutMs: number;
  /** By the database's clock; set by the first claim, not moved by later ones. */
  readonly deadlineAt: number;
  readonly traceParent?: string;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly quotas: Quotas;
}
