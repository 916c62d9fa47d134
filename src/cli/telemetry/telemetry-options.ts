import type { Metrics } from '../../builds/metrics/metrics.ts';
import type { Log } from '../../core/log.ts';
import type { Tracing } from '../../core/tracing.ts';
import type { Config } from '../config.ts';

export interface Telemetry extends AsyncDisposable {
  readonly tracing: Tracing;
}

export interface TelemetryOptions {
  readonly config: Config;
  readonly role: string;
  readonly metrics: Metrics;
  readonly log: Log;
}
