import type { Clock } from '../../core/clock.ts';
import type { ErrorCode } from '../../core/error-catalogue.ts';
import type { Failpoints } from '../../core/failpoint.ts';
import type { Log } from '../../core/log.ts';
import type { Tracing } from '../../core/tracing.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import type { Database } from '../../store/database.ts';
import type { SealedSecrets } from '../../store/secrets/sealed-secrets.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Converter } from '../worker/converter.ts';
import type { AttemptImages } from './attempt-images.ts';
import type { PlanDefaults } from './plan-attempt.ts';

/** What an attempt works with; made by the composition root. */
export interface AttemptDeps {
  readonly database: Database;
  readonly images: AttemptImages;
  readonly converter: Converter;
  readonly artifacts: ArtifactStore;
  readonly secrets: SealedSecrets;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Default: nothing is traced. */
  readonly tracing?: Tracing;
  readonly clock: Clock;
  /** Never goes back, and counts the time that the host slept. */
  readonly monotonicMs: () => number;
  readonly failpoints: Failpoints;
  /** How long a build waits after so many attempts that failed, the last one with that fault. */
  readonly retryDelayMs?: (attempt: number, code: ErrorCode) => number;
  readonly defaults: PlanDefaults;
  /** ENABLE_ENCRYPTION: for all tenants, whatever their tier says. */
  readonly encryptAll: boolean;
  /** DOCKER_PULL_TIMEOUT; absent for none but the build's own. */
  readonly pullTimeoutMs?: number | undefined;
  /** The program that becomes /usr/bin/metald-init with guest files. */
  readonly guestInit?: Buffer;
  /** For data while no output can hold it. */
  readonly scratchDir: string;
}
