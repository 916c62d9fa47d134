import type { Log } from '../core/log.ts';

export interface OpenDatabaseOptions {
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Default: true. False demands that the tables are of this version already. */
  readonly migrate?: boolean;
  /** Hears which migrations were run; none when the tables were of this version already. */
  readonly onMigrated?: (names: readonly string[]) => void;
}
