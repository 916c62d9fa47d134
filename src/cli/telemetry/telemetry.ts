import { NO_TRACING } from '../../core/tracing.ts';
import type { Telemetry, TelemetryOptions } from './telemetry-options.ts';

/** Off unless OTEL_ENABLED; then nothing of OpenTelemetry is even loaded. */
export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  if (!options.config.settings.OTEL_ENABLED) {
    return { tracing: NO_TRACING, [Symbol.asyncDispose]: async () => undefined };
  }
  const { startOtlp } = await import('./otlp.ts');
  return await startOtlp(options);
}
