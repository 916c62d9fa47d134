import { BuilderdError } from '../../core/errors.ts';
import type { Environment, Settings } from '../config.ts';

export interface OtlpTarget {
  readonly protocol: 'grpc' | 'http/protobuf';
  readonly tracesUrl: string;
  readonly metricsUrl: string;
  /** For gRPC, which has no scheme of its own. */
  readonly tls: boolean;
  /** May hold keys. */
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

const GRPC_PORT = '4317';
const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Where telemetry goes. OTEL_ENDPOINT decides; without it OpenTelemetry's standard variables do.
 * Port 4317 means gRPC unless OTEL_EXPORTER_OTLP_PROTOCOL says otherwise. Throws `config.invalid`.
 */
export function otlpTarget(
  settings: Pick<Settings, 'OTEL_ENDPOINT' | 'OTEL_INSECURE'>,
  given: ReadonlySet<string>,
  standard: Environment,
): OtlpTarget {
  const own = given.has('OTEL_ENDPOINT');
  const general = own ? undefined : filled(standard, 'OTEL_EXPORTER_OTLP_ENDPOINT');
  const base = parseEndpoint(general ?? settings.OTEL_ENDPOINT, settings, given);
  const protocol = protocolOf(filled(standard, 'OTEL_EXPORTER_OTLP_PROTOCOL'), base);
  const urlOf = (signal: 'TRACES' | 'METRICS'): string => {
    const single = own ? undefined : filled(standard, `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`);
    if (single !== undefined) return parseEndpoint(single, settings, given).href;
    if (protocol === 'grpc') return base.origin;
    return `${base.href.replace(/\/$/, '')}/v1/${signal.toLowerCase()}`;
  };
  return {
    protocol,
    tracesUrl: urlOf('TRACES'),
    metricsUrl: urlOf('METRICS'),
    tls: base.protocol === 'https:',
    headers: parseHeaders(filled(standard, 'OTEL_EXPORTER_OTLP_HEADERS') ?? ''),
    timeoutMs: parseMs(filled(standard, 'OTEL_EXPORTER_OTLP_TIMEOUT')) ?? DEFAULT_TIMEOUT_MS,
  };
}

function parseEndpoint(
  text: string,
  { OTEL_INSECURE: insecure }: Pick<Settings, 'OTEL_INSECURE'>,
  given: ReadonlySet<string>,
): URL {
  const hasScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
  const url = URL.parse(hasScheme ? text : `${insecure ? 'http' : 'https'}://${text}`);
  if (
    url === null ||
    !/^https?:$/.test(url.protocol) ||
    url.hostname === '' ||
    url.username !== ''
  ) {
    throw invalid('want host:port, or a URL with http or https and without a user');
  }
  if (given.has('OTEL_INSECURE') && insecure === (url.protocol === 'https:')) {
    throw invalid(`its scheme and OTEL_INSECURE ${insecure} contradict each other`);
  }
  return url;
}

function protocolOf(asked: string | undefined, base: URL): OtlpTarget['protocol'] {
  if (asked === undefined) return base.port === GRPC_PORT ? 'grpc' : 'http/protobuf';
  if (asked === 'grpc' || asked === 'http/protobuf') return asked;
  throw new BuilderdError(
    'config.invalid',
    `Cannot use ${JSON.stringify(asked.slice(0, 40))} for OTEL_EXPORTER_OTLP_PROTOCOL: want grpc or http/protobuf`,
  );
}

/** `key=value,key=value`, percent-encoded, as the standard says. */
export function parseHeaders(text: string): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const pair of text.split(',')) {
    const at = pair.indexOf('=');
    if (at < 1) continue;
    headers[decodeURIComponent(pair.slice(0, at).trim()).toLowerCase()] = decodeURIComponent(
      pair.slice(at + 1).trim(),
    );
  }
  return headers;
}

export function parseMs(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined;
}

function filled(standard: Environment, name: string): string | undefined {
  const value = standard[name];
  return value === undefined || value === '' ? undefined : value;
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use the OTLP endpoint of UNKEY_BUILDERD_OTEL_ENDPOINT: ${fact}`,
  );
}
