import type { Metrics } from '../../builds/metrics/metrics.ts';
import type { Log } from '../../core/log.ts';
import { NO_TRACING, type Tracing } from '../../core/tracing.ts';
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

/** Off unless OTEL_ENABLED; then nothing of OpenTelemetry is even loaded. */
export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  if (!options.config.settings.OTEL_ENABLED) {
    return { tracing: NO_TRACING, [Symbol.asyncDispose]: async () => undefined };
  }
  const { startOtlp } = await import('./otlp.ts');
  return await startOtlp(options);
}
