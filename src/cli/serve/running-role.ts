import type { Failpoints } from '../../core/failpoint.ts';
import type { Log } from '../../core/log.ts';
import type { Tracing } from '../../core/tracing.ts';
import type { Metrics } from '../../builds/metrics/metrics.ts';
import type { Config } from '../config.ts';
import type { Redact } from '../logging/redact.ts';
import type { Identity, RoleName } from './role-protocol.ts';
import type { RecentErrors } from './recent-errors.ts';

/** What a role is made from. */
export interface RoleContext {
  readonly role: RoleName;
  readonly config: Config;
  /** Contents of files by setting: certificates and keys that only root may read. */
  readonly files: Readonly<Record<string, string>>;
  /** The account to become before listening; absent when the service was not started by root. */
  readonly identity?: Identity;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  /** Do nothing outside of tests. */
  readonly failpoints: Failpoints;
  readonly errors: RecentErrors;
  readonly redact: Redact;
  /** True when no other role runs on this host. */
  readonly alone: boolean;
  /** Names this start of the process. */
  readonly process: string;
  /** Aborted when the start must be given up. */
  readonly signal: AbortSignal;
  readonly startedAt: number;
}

/** A role that serves. */
export interface RunningRole {
  /** Facts for `/debug/status`, without secrets. */
  status(options: { readonly signal: AbortSignal }): Promise<Readonly<Record<string, unknown>>>;
  /** Takes over what can change while it runs; gives the names of all that. Throws and changes nothing. */
  reload(next: Config, files: Readonly<Record<string, string>>): Promise<readonly string[]>;
  /** Finishes or hands back what runs. `signal` ends the patience. */
  stop(options: { readonly signal: AbortSignal }): Promise<void>;
  /** Rejects when the role cannot go on. Never resolves. */
  readonly failed: Promise<never>;
}
