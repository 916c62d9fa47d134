import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from '../../core/schema/schema-builders.ts';
import { parseBuildId } from '../../core/ids.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { TENANT_READ } from '../auth/access.ts';
import { tenantOf } from '../auth/request-state.ts';
import { chooseMediaType } from '../http/accept.ts';
import { parseLastEventId } from '../http/last-event-id.ts';
import { StatusFault } from '../http/problem.ts';
import { BuildParams, faults, strict } from '../schemas/field-schemas.ts';
import { LOG_FORMS, type LogForm, openLogBody } from '../streams/log-answer.ts';
import { presentLogEntry } from '../streams/log-lines.ts';
import { noteBroken } from '../streams/note-broken.ts';

const FORMS = [...LOG_FORMS, 'application/json'] as const;
const PAGE = 1000;

const LogQuery = Type.Object(
  {
    from: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 2 ** 50,
        description: 'Number of the first entry. Default 0.',
      }),
    ),
    follow: Type.Optional(
      Type.Boolean({ description: 'Stay until the build ends. Default: for event streams only.' }),
    ),
  },
  strict,
);

interface LogQueryValues {
  readonly from?: number;
  readonly follow?: boolean;
}

const schema = {
  summary:
    'The log of a build: plain lines, NDJSON, one JSON page, or server-sent events, by Accept.',
  description:
    'Entries are numbered from 0. An event stream sends each number as the event id and goes on after Last-Event-ID; it ends with an `end` event.',
  tags: ['logs'],
  params: BuildParams,
  querystring: LogQuery,
  headers: Type.Object({
    'last-event-id': Type.Optional(Type.String({ description: 'Number of the last entry seen.' })),
  }),
  produces: [...FORMS],
  response: { 200: { description: 'The log.', content: logContent() }, ...faults },
} as const;

export function addLogRoutes(app: ApiApp, context: ApiContext): void {
  app.get(
    '/v1/builds/:id/logs',
    { config: { guard: TENANT_READ }, schema: { ...schema, operationId: 'getBuildLog' } },
    (request, reply) => sendLog(context, request, reply, request.params.id, request.query),
  );
  // The operations guide fetches logs under the name of the RPC service.
  for (const [index, service] of ['builder.v1', 'deploy.builderd.v1'].entries()) {
    app.get(
      `/${service}.BuilderService/GetBuildLogs/:id`,
      {
        config: { guard: TENANT_READ },
        schema: { ...schema, operationId: `getBuildLogs${index + 1}` },
      },
      (request, reply) => sendLog(context, request, reply, request.params.id, request.query),
    );
  }
}

async function sendLog(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  rawId: string,
  query: LogQueryValues,
): Promise<FastifyReply> {
  const { builds, limits } = context;
  const id = parseBuildId(rawId);
  const tenant = tenantOf(request);
  const form = chooseMediaType(request.headers.accept, FORMS);
  if (form === undefined) {
    throw new StatusFault(
      406,
      'api.invalid',
      `Cannot give the log in that form: offered are ${FORMS.join(', ')}`,
    );
  }
  const lastSeen = parseLastEventId(oneOf(request.headers['last-event-id']));
  const from = lastSeen === undefined ? (query.from ?? 0) : lastSeen + 1;
  if (form === 'application/json') {
    const page = await builds.readLog(tenant, id, { ...request.state.call(), from, limit: PAGE });
    const last = page.entries.at(-1);
    return reply.send({
      entries: page.entries.map(presentLogEntry),
      next: last === undefined ? from : last.n + 1,
      ended: page.ended,
    });
  }
  if (lastSeen !== undefined && (await isOver(context, request, id, from))) {
    // Tells an EventSource that there is no need to come back.
    return reply.code(204).send();
  }
  const follow = query.follow ?? form === 'text/event-stream';
  const place = context.openStream(tenant);
  try {
    const body = await openLogBody(
      builds,
      {
        tenant,
        id,
        from,
        follow,
        form,
        requestId: request.id,
        signal: follow ? context.follow(request) : request.state.streamSignal(),
      },
      {
        limits,
        onEnd: () => place[Symbol.dispose](),
        onFault: noteBroken(context.log, request),
      },
    );
    reply.header('x-accel-buffering', 'no').type(mediaTypeOf(form)).send(body);
    // A silent build has no first byte yet; the client shall know that it is followed.
    if (follow) reply.raw.flushHeaders();
    return reply;
  } catch (reason) {
    place[Symbol.dispose]();
    throw reason;
  }
}

async function isOver(
  { builds }: ApiContext,
  request: FastifyRequest,
  id: ReturnType<typeof parseBuildId>,
  from: number,
): Promise<boolean> {
  const call = request.state.call();
  const { entries, ended } = await builds.readLog(tenantOf(request), id, {
    ...call,
    from,
    limit: 1,
  });
  return ended && entries.length === 0;
}

function mediaTypeOf(form: LogForm): string {
  return form === 'text/plain' ? 'text/plain; charset=utf-8' : form;
}

function oneOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function logContent() {
  const text = { schema: Type.String() };
  return {
    'text/plain': text,
    'application/x-ndjson': text,
    'text/event-stream': text,
    'application/json': {
      schema: Type.Object({
        entries: Type.Array(
          Type.Object({
            n: Type.Integer(),
            time: Type.String(),
            level: Type.String(),
            component: Type.String(),
            message: Type.String(),
            metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
          }),
        ),
        next: Type.Integer({ description: 'Where the next page starts.' }),
        ended: Type.Boolean({ description: 'The build is over and nothing is left.' }),
      }),
    },
  };
}
