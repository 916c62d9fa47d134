/** Everything that a span may say: a closed set, so that no secret leaves with a trace. */
export interface SpanFields {
  readonly 'builderd.build_id'?: string;
  readonly 'builderd.tenant'?: string;
  readonly 'builderd.attempt'?: number;
  readonly 'builderd.state'?: string;
  readonly 'builderd.format'?: string;
  readonly 'builderd.registry'?: string;
  readonly 'builderd.bytes'?: number;
  readonly 'builderd.layers'?: number;
  readonly 'http.request.method'?: string;
  readonly 'http.route'?: string;
  readonly 'http.response.status_code'?: number;
  readonly 'rpc.system'?: string;
  readonly 'rpc.service'?: string;
  readonly 'rpc.method'?: string;
  readonly 'error.type'?: string;
}

/** Names are constants: what varies is in the fields. */
export const SPAN_NAMES = [
  'request',
  'create build',
  'attempt',
  'pull',
  'convert',
  'commit',
] as const;
export type SpanName = (typeof SPAN_NAMES)[number];

/** One timed piece of work. Disposal ends it. */
export interface Span extends Disposable {
  /** W3C traceparent, for a row or a header; undefined when nothing is traced. */
  readonly traceParent: string | undefined;
  set(fields: SpanFields): void;
  /** Notes that it ended badly; only the code leaves the process. */
  fail(reason: unknown): void;
}

export interface Tracing {
  /** `parent` is a traceparent that a caller or a row gave; one that is malformed is ignored. */
  span(
    name: SpanName,
    options?: { readonly parent?: string | undefined; readonly fields?: SpanFields },
  ): Span;
}

const NO_SPAN: Span = {
  traceParent: undefined,
  set: () => undefined,
  fail: () => undefined,
  [Symbol.dispose]: () => undefined,
};

export const NO_TRACING: Tracing = { span: () => NO_SPAN };
