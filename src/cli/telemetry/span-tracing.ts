import {
  type Attributes,
  type Context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span as OtelSpan,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api';
import { asBuilderdError } from '../../core/errors.ts';
import type { Span, SpanFields, SpanName, Tracing } from '../../core/tracing.ts';

/** `Tracing` over OpenTelemetry. Parents are passed by hand: a build outlives its request and its process. */
export function spanTracing(tracer: Tracer): Tracing {
  return {
    span(name, options = {}) {
      const attributes: Attributes = { ...options.fields };
      const span = tracer.startSpan(
        name,
        { kind: kindOf(name), attributes },
        contextOf(options.parent),
      );
      return wrap(span);
    },
  };
}

function wrap(span: OtelSpan): Span {
  const { traceId, spanId, traceFlags } = span.spanContext();
  let open = true;
  return {
    traceParent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`,
    set: (fields: SpanFields) => void span.setAttributes({ ...fields }),
    fail(reason) {
      const { code } = asBuilderdError(reason, 'go on');
      span.setAttributes({ 'error.type': code });
      // The text of a fault may hold foreign names; the code says enough.
      span.setStatus({ code: SpanStatusCode.ERROR, message: code });
    },
    [Symbol.dispose]() {
      if (open) span.end();
      open = false;
    },
  };
}

function kindOf(name: SpanName): SpanKind {
  if (name === 'request') return SpanKind.SERVER;
  return name === 'attempt' ? SpanKind.CONSUMER : SpanKind.INTERNAL;
}

/** W3C trace context, version 00; whatever else it says is ignored and begins a trace of its own. */
export function contextOf(traceParent: string | undefined): Context {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceParent ?? '');
  const [, traceId = '', spanId = '', flags = '00'] = match ?? [];
  const parent = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
  return isSpanContextValid(parent) ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
}
