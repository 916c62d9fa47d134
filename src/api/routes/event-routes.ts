import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from '../../core/schema/schema-builders.ts';
import { EVENT_TYPES, type EventView } from '../../builds/service/event-service.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { TENANT_READ, TENANT_WRITE } from '../auth/access.ts';
import { callerOf, tenantOf } from '../auth/request-state.ts';
import { chooseMediaType } from '../http/accept.ts';
import { parseLastEventId } from '../http/last-event-id.ts';
import { StatusFault } from '../http/problem.ts';
import { faults, strict } from '../schemas/field-schemas.ts';
import { presentEvent, presentWebhook } from '../schemas/event-schema.ts';
import { endFrame } from '../streams/end-frame.ts';
import { eventFrame, HEARTBEAT, RETRY_FRAME } from '../streams/event-frame.ts';
import { noteBroken } from '../streams/note-broken.ts';
import { pacedStream, withHeartbeats } from '../streams/paced-stream.ts';
import { knownForm } from './secret-routes.ts';

const FORMS = ['application/json', 'text/event-stream'] as const;

const EventQuery = Type.Object(
  {
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 2 ** 50,
        description: 'Events after this number. Default 0.',
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, description: 'Default 100.' })),
  },
  strict,
);

export function addEventRoutes(app: ApiApp, context: ApiContext): void {
  app.get(
    '/v1/events',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listEvents',
        summary: "The tenant's events: a page of JSON, or server-sent events by Accept.",
        description: 'Numbers have no gaps; an event stream goes on after Last-Event-ID.',
        tags: ['events'],
        querystring: EventQuery,
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.String()) }),
        response: {
          200: {
            description: 'Events, oldest first.',
            content: {
              'application/json': {
                schema: Type.Object({
                  events: Type.Array(Type.Ref('Event#')),
                  next: Type.Integer(),
                }),
              },
              'text/event-stream': { schema: Type.String() },
            },
          },
          ...faults,
        },
      },
    },
    async (request, reply) => {
      const form = chooseMediaType(request.headers.accept, FORMS);
      if (form === undefined) {
        throw new StatusFault(
          406,
          'api.invalid',
          `Cannot give events in that form: offered are ${FORMS.join(', ')}`,
        );
      }
      const { after = 0, limit = 100 } = request.query;
      const header = request.headers['last-event-id'];
      const start = parseLastEventId(header) ?? after;
      if (form === 'text/event-stream') return followEvents(context, request, reply, start);
      const call = { ...request.state.call(), after: start, limit };
      const events = await context.events.read(tenantOf(request), call);
      return reply.send({ events: events.map(presentEvent), next: events.at(-1)?.seq ?? start });
    },
  );
  addWebhookRoutes(app, context);
}

async function followEvents(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  after: number,
): Promise<FastifyReply> {
  const { events, limits } = context;
  const control = new AbortController();
  const signal = AbortSignal.any([context.follow(request), control.signal]);
  const place = context.openStream(tenantOf(request));
  let source: AsyncIterator<readonly EventView[]>;
  try {
    source = events.follow(tenantOf(request), { after, signal })[Symbol.asyncIterator]();
  } catch (reason) {
    place[Symbol.dispose]();
    throw reason;
  }
  async function* pieces(): AsyncGenerator<string, void, void> {
    yield RETRY_FRAME;
    yield* withHeartbeats(source, {
      heartbeatMs: limits.heartbeatMs,
      heartbeat: HEARTBEAT,
      write: (event) => eventFrame(event.type, presentEvent(event), event.seq),
    });
    const last = endFrame(signal.reason, request.id);
    if (last !== undefined) yield last;
  }
  const body = pacedStream(pieces(), {
    stalledMs: limits.stalledMs,
    abort: (reason) => control.abort(reason),
    onEnd: () => place[Symbol.dispose](),
    onFault: noteBroken(context.log, request),
  });
  return reply.header('x-accel-buffering', 'no').type('text/event-stream').send(body);
}

function addWebhookRoutes(app: ApiApp, { events }: ApiContext): void {
  const tags = ['webhooks'];
  app.get(
    '/v1/webhooks',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listWebhooks',
        summary: 'Where events are delivered to.',
        tags,
        response: { 200: Type.Object({ webhooks: Type.Array(Type.Ref('Webhook#')) }), ...faults },
      },
    },
    async (request) => {
      const found = await events.listWebhooks(tenantOf(request), request.state.call());
      return { webhooks: found.map(presentWebhook) };
    },
  );
  app.post(
    '/v1/webhooks',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'createWebhook',
        summary: 'Delivers events to a URL, signed. The secret is in this answer and nowhere else.',
        tags,
        body: Type.Object(
          {
            url: Type.String({
              minLength: 1,
              maxLength: 2048,
              pattern: '^https?://[^\\s\\u0000]+$',
            }),
            events: Type.Array(Type.Enum([...EVENT_TYPES]), {
              minItems: 1,
              maxItems: EVENT_TYPES.length,
              uniqueItems: true,
            }),
          },
          strict,
        ),
        response: {
          201: Type.Object({
            webhook: Type.Ref('Webhook#'),
            secret: Type.String({ description: 'Shown once.' }),
          }),
          ...faults,
        },
      },
    },
    async (request, reply) => {
      const { webhook, secret } = await events.createWebhook(
        callerOf(request),
        tenantOf(request),
        request.body,
        request.state.call(),
      );
      return reply
        .code(201)
        .header('location', `/v1/webhooks/${webhook.id}`)
        .send({ webhook: presentWebhook(webhook), secret });
    },
  );
  app.post(
    '/v1/webhooks/:id/enable',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'enableWebhook',
        summary: 'Delivers again to a webhook that was disabled: what happens from now on.',
        tags,
        params: Type.Object({ id: Type.String({ maxLength: 100 }) }),
        response: { 200: Type.Ref('Webhook#'), ...faults },
      },
    },
    async (request) => {
      const id = knownForm(request.params.id, 'webhook');
      return presentWebhook(
        await events.enableWebhook(callerOf(request), tenantOf(request), id, request.state.call()),
      );
    },
  );
  app.delete(
    '/v1/webhooks/:id',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'deleteWebhook',
        summary: 'Stops a delivery.',
        tags,
        params: Type.Object({ id: Type.String({ maxLength: 100 }) }),
        response: { 204: Type.Null({ description: 'Gone.' }), ...faults },
      },
    },
    async (request, reply) => {
      const id = knownForm(request.params.id, 'webhook');
      await events.deleteWebhook(callerOf(request), tenantOf(request), id, request.state.call());
      return reply.code(204).send(null);
    },
  );
}
