import { Duplex } from 'node:stream';
import type { FastifyRequest, RouteOptions } from 'fastify';
import { BuilderdError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Tracing } from '../core/tracing.ts';
import type { ApiLimits } from './api-limits.ts';
import type { ApiApp, ApiObserver } from './api-options.ts';
import type { Gate } from './auth/gate.ts';
import { RequestState } from './auth/request-state.ts';
import { answerFault, notFound } from './http/fault-answer.ts';
import { type HygieneOptions, refuseUnclean, setAnswerHeaders } from './http/hygiene.ts';
import { typedQuery } from './http/query-values.ts';
import { parseStrictBody } from './http/strict-body.ts';

/** Variables of a guest: `http_proxy` and `HTTP_PROXY` are two. */
const FREE_FORM = new Set(['env']);

export interface RequestHookOptions {
  readonly gate: Gate;
  readonly limits: ApiLimits;
  readonly hygiene: HygieneOptions;
  readonly closing: AbortSignal;
  readonly log: Log;
  readonly observer: ApiObserver | undefined;
  readonly tracing: Tracing;
  readonly nowMs: () => number;
}

/** What happens to every request around its handler, whatever route it has. */
export function addRequestHooks(app: ApiApp, options: RequestHookOptions): void {
  const { gate, limits, hygiene, closing, log, tracing, nowMs } = options;
  app.decorateRequest('state');
  refuseUnguardedRoutes(app);

  app.addHook('onRequest', async (request, reply) => {
    request.state = new RequestState({
      reply,
      closing,
      callMs: limits.callMs,
      nowMs,
      onClose: (state) => noteRequest(request, state, options),
    });
    const guard = request.routeOptions.config.guard;
    if (guard?.unmetered !== true) beginSpan(request, tracing);
    setAnswerHeaders(request, reply, hygiene);
    if (guard?.unmetered === true) refuseUnclean(request, hygiene, true);
    else gate.meterRefusals(request, () => refuseUnclean(request, hygiene, false));
    await gate.pass(request, guard);
  });

  // HTTP/1.1 has the server's own clock for this; HTTP/2 streams have none.
  app.addHook('preParsing', async (request, reply, payload) => {
    // A stream that was reset meanwhile will not close again.
    if (request.raw.httpVersionMajor < 2 || isReset(request)) return payload;
    const timer = setTimeout(() => {
      reply.raw.destroy();
    }, limits.requestMs);
    request.raw.once('end', () => clearTimeout(timer));
    reply.raw.once('close', () => clearTimeout(timer));
    return payload;
  });

  app.removeAllContentTypeParsers();
  app.addContentTypeParser<Buffer>(
    'application/json',
    { parseAs: 'buffer' },
    async (_request: FastifyRequest, body: Buffer) =>
      body.length === 0
        ? undefined
        : parseStrictBody(body, {
            maxBytes: limits.bodyBytes,
            maxDepth: limits.jsonDepth,
            maxKeys: limits.jsonKeys,
            freeForm: FREE_FORM,
          }),
  );

  app.addHook('preValidation', async (request) => {
    const schema = request.routeOptions.schema?.querystring;
    request.query = typedQuery(request.query, schema);
  });

  app.setErrorHandler((reason, request, reply) => answerFault(reason, request, reply, log));
  app.setNotFoundHandler((request, reply) => answerFault(notFound(), request, reply, log));
}

/** Has an HTTP/2 client taken its request back? Only the stream below the message knows. */
function isReset({ raw }: FastifyRequest): boolean {
  const stream: unknown = Reflect.get(raw, 'stream');
  return stream instanceof Duplex && stream.destroyed;
}

/** From here on the request's own span is what everything it starts belongs to. */
function beginSpan(request: FastifyRequest, tracing: Tracing): void {
  const parent = request.headers['traceparent'];
  const span = tracing.span('request', {
    parent: typeof parent === 'string' ? parent : undefined,
    fields: { 'http.request.method': request.method },
  });
  if (span.traceParent === undefined) return;
  request.headers['traceparent'] = span.traceParent;
  request.state.span = span;
}

function endSpan(
  { state: { span } }: FastifyRequest,
  { route, status }: { readonly route: string; readonly status: number },
): void {
  if (span === undefined) return;
  span.set({ 'http.route': route, 'http.response.status_code': status });
  span[Symbol.dispose]();
}

/** HTTP/2 lets a client invent methods; a label must not be invented by it. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
/** As nginx writes it: the client left before the whole answer was out. */
const CLIENT_LEFT = 499;

/** One line for each request, with the pattern of its route: URLs hold ids, and what people put there. */
function noteRequest(
  request: FastifyRequest,
  { reply, startedAt, tenant, isAnswered }: RequestState,
  { log, observer, nowMs }: RequestHookOptions,
): void {
  const facts = {
    method: METHODS.has(request.method) ? request.method : 'OTHER',
    route: request.routeOptions.url ?? 'none',
    status: isAnswered ? reply.statusCode : CLIENT_LEFT,
    durationMs: Math.round(nowMs() - startedAt),
  };
  observer?.requestDone(facts);
  endSpan(request, facts);
  if (request.routeOptions.config.guard?.unmetered === true) return;
  const { id: requestId, ip: address } = request;
  log.info(
    { ...facts, requestId, address, ...(tenant === undefined ? {} : { tenant: tenant.name }) },
    'Request',
  );
}

/** A route that nobody thought about is open to nobody: the start fails. */
function refuseUnguardedRoutes(app: ApiApp): void {
  const routes: RouteOptions[] = [];
  app.addHook('onRoute', (route) => {
    routes.push(route);
  });
  app.addHook('onReady', async () => {
    const open = routes.find((route) => route.config?.guard === undefined);
    if (open === undefined) return;
    throw new BuilderdError('internal', `Cannot serve ${open.url}: nothing says who may use it`);
  });
}
