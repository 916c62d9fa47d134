import { diag, DiagLogLevel } from '@opentelemetry/api';
import { resourceFromAttributes, type Resource } from '@opentelemetry/resources';
import type { PushMetricExporter } from '@opentelemetry/sdk-metrics';
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { familiesOf } from '../../builds/metrics/merge-expositions.ts';
import type { Log } from '../../core/log.ts';
import { builderdVersion } from '../version.ts';
import { otlpMetrics } from './otlp-metrics.ts';
import { type OtlpTarget, otlpTarget, parseHeaders, parseMs } from './otlp-target.ts';
import { spanTracing } from './span-tracing.ts';
import type { Telemetry, TelemetryOptions } from './telemetry-options.ts';

const METRICS_INTERVAL_MS = 30_000;
const QUIET_MS = 60_000;
const SHUTDOWN_LIMIT_MS = 3000;
const MAX_ATTRIBUTE_LENGTH = 256;

interface Exporters {
  readonly traces: SpanExporter;
  readonly metrics: PushMetricExporter;
}

/** Sends traces as they end and metrics every half minute, until disposed. A dead collector costs warnings. */
export async function startOtlp({
  config,
  role,
  metrics,
  log,
}: TelemetryOptions): Promise<Telemetry> {
  const { settings, given, standardOtel } = config;
  const target = otlpTarget(settings, given, standardOtel);
  quietly(log);
  const exporters =
    target.protocol === 'grpc' ? await grpcExporters(target) : await httpExporters(target);
  const resource = resourceOf(config, role);
  const provider = new TracerProvider({
    resource,
    sampler: new ParentBasedSampler({
      root: new TraceIdRatioBasedSampler(settings.OTEL_SAMPLING_RATE),
    }),
    spanLimits: { attributeValueLengthLimit: MAX_ATTRIBUTE_LENGTH },
    spanProcessors: [new BatchSpanProcessor({ exporter: exporters.traces })],
  });
  const startedAt = new Date();
  let sending = Promise.resolve();
  const sendMetrics = async (): Promise<void> => {
    await metrics.collect();
    const families = await familiesOf(metrics.registry);
    const data = otlpMetrics(families, { resource, startedAt, at: new Date() });
    await new Promise<void>((resolve) => exporters.metrics.export(data, () => resolve()));
  };
  const next = (): void => {
    sending = sending
      .then(sendMetrics)
      .catch((reason: unknown) => log.warn({ err: reason }, 'Cannot send the metrics over OTLP'));
  };
  const timer = setInterval(
    next,
    parseMs(standardOtel['OTEL_METRIC_EXPORT_INTERVAL']) ?? METRICS_INTERVAL_MS,
  );
  timer.unref();
  log.info({ address: target.tracesUrl }, 'Sending traces and metrics over OTLP');
  return {
    tracing: spanTracing(provider.getTracer('builderd', builderdVersion())),
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      next();
      const done = Promise.all([
        provider.shutdown(),
        sending.then(() => exporters.metrics.shutdown()),
      ]).catch((reason: unknown) => log.warn({ err: reason }, 'Cannot send the last telemetry'));
      let limit: NodeJS.Timeout | undefined;
      await Promise.race([
        done,
        new Promise((resolve) => {
          limit = setTimeout(resolve, SHUTDOWN_LIMIT_MS);
        }),
      ]);
      clearTimeout(limit);
    },
  };
}

async function grpcExporters(target: OtlpTarget): Promise<Exporters> {
  const { credentials, Metadata } = await import('@grpc/grpc-js');
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-grpc');
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-grpc');
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(target.headers)) metadata.set(name, value);
  const common = {
    credentials: target.tls ? credentials.createSsl() : credentials.createInsecure(),
    metadata,
    timeoutMillis: target.timeoutMs,
  };
  return {
    traces: new OTLPTraceExporter({ ...common, url: target.tracesUrl }),
    metrics: new OTLPMetricExporter({ ...common, url: target.metricsUrl }),
  };
}

async function httpExporters(target: OtlpTarget): Promise<Exporters> {
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto');
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-proto');
  const common = { headers: { ...target.headers }, timeoutMillis: target.timeoutMs };
  return {
    traces: new OTLPTraceExporter({ ...common, url: target.tracesUrl }),
    metrics: new OTLPMetricExporter({ ...common, url: target.metricsUrl }),
  };
}

function resourceOf(
  { settings, given, standardOtel }: TelemetryOptions['config'],
  role: string,
): Resource {
  const standardName = standardOtel['OTEL_SERVICE_NAME'] ?? '';
  const ownName = given.has('OTEL_SERVICE_NAME') || standardName === '';
  return resourceFromAttributes({
    ...parseHeaders(standardOtel['OTEL_RESOURCE_ATTRIBUTES'] ?? ''),
    'service.name': ownName ? settings.OTEL_SERVICE_NAME : standardName,
    'service.namespace': 'unkey',
    'service.version':
      settings.OTEL_SERVICE_VERSION === '' ? builderdVersion() : settings.OTEL_SERVICE_VERSION,
    'service.instance.id': randomUUID(),
    'host.name': hostname(),
    'builderd.role': role,
  });
}

/** The SDK's own words, at most one a minute: a collector that is away must not fill the log. */
function quietly(log: Log): void {
  let lastAt = Number.NEGATIVE_INFINITY;
  const warn = (text: string): void => {
    const now = performance.now();
    if (now - lastAt < QUIET_MS) return;
    lastAt = now;
    log.warn({ err: text.slice(0, 500) }, 'OpenTelemetry cannot send');
  };
  const silent = (): void => undefined;
  diag.setLogger(
    { error: warn, warn, info: silent, debug: silent, verbose: silent },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
}
