import { Type } from '../../core/schema/schema-builders.ts';
import type { ListBuilds } from '../../builds/service/build-service.ts';
import type { BuildSpec } from '../../builds/build-spec.ts';
import { isTerminal } from '../../core/build-state.ts';
import { parseBuildId } from '../../core/ids.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { TENANT_READ, TENANT_WRITE } from '../auth/access.ts';
import { callerOf, tenantOf } from '../auth/request-state.ts';
import { matchesTag, strongTag } from '../http/entity-tag.ts';
import { parseLabelSelector } from '../http/label-selector.ts';
import { parseTime } from '../http/time-value.ts';
import { presentBuild, StateSchema } from '../schemas/build-schema.ts';
import { BuildParams, Count, faults, strict, Time } from '../schemas/field-schemas.ts';

const tags = ['builds'];

/** `00-<trace>-<parent>-<flags>`, W3C Trace Context. */
const TRACE_PARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
const IDEMPOTENCY_KEY = {
  type: 'string',
  minLength: 1,
  maxLength: 255,
  pattern: '^[\\x21-\\x7e]+$',
} as const;

export function addBuildRoutes(app: ApiApp, { builds }: ApiContext): void {
  app.post(
    '/v1/builds',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'createBuild',
        summary: 'Asks for a build.',
        description:
          'Repeat it with the same Idempotency-Key and body to get the first answer again.',
        tags,
        headers: Type.Object({
          'idempotency-key': Type.Optional(
            Type.Unsafe<string>({ ...IDEMPOTENCY_KEY, description: 'Makes a repeat harmless.' }),
          ),
        }),
        body: Type.Unsafe<BuildSpec>(Type.Ref('BuildSpec#')),
        response: { 202: Type.Ref('Build#'), ...faults },
      },
    },
    async (request, reply) => {
      const key = request.headers['idempotency-key'];
      const traceParent = request.headers['traceparent'];
      const { build, created } = await builds.create(
        callerOf(request),
        tenantOf(request),
        request.body,
        {
          ...request.state.call(),
          ...(key === undefined ? {} : { idempotencyKey: key }),
          ...(typeof traceParent === 'string' && TRACE_PARENT.test(traceParent)
            ? { traceParent }
            : {}),
        },
      );
      if (!created) reply.header('idempotency-replayed', 'true');
      return reply.code(202).header('location', `/v1/builds/${build.id}`).send(presentBuild(build));
    },
  );

  app.get(
    '/v1/builds',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listBuilds',
        summary: 'Lists builds, newest first.',
        description:
          'Without `image`, which a build of its own has. A page of over 1 MiB ends early: go on while there is a nextCursor.',
        tags,
        querystring: Type.Object(
          {
            state: Type.Optional(
              Type.Array(StateSchema, { maxItems: 9, description: 'One or several.' }),
            ),
            label: Type.Optional(
              Type.Array(Type.String({ maxLength: 1200 }), {
                maxItems: 16,
                description: '`key=value`; all must hold.',
              }),
            ),
            limit: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 500, description: 'Default 50.' }),
            ),
            cursor: Type.Optional(
              Type.String({ maxLength: 1024, description: 'nextCursor of the page before.' }),
            ),
          },
          strict,
        ),
        response: {
          200: Type.Object({
            builds: Type.Array(Type.Ref('Build#')),
            nextCursor: Type.Optional(Type.String()),
            total: Count('Builds that match, on all pages.'),
          }),
          ...faults,
        },
      },
    },
    async (request) => {
      const { state, label, limit = 50, cursor } = request.query;
      const query: ListBuilds = {
        limit,
        ...(state === undefined ? {} : { states: state }),
        ...(label === undefined ? {} : { labels: parseLabelSelector(label) }),
        ...(cursor === undefined ? {} : { cursor }),
      };
      const page = await builds.list(tenantOf(request), query, request.state.call());
      return {
        builds: page.builds.map(presentBuild),
        total: page.total,
        ...(page.nextCursor === undefined ? {} : { nextCursor: page.nextCursor }),
      };
    },
  );

  app.get(
    '/v1/builds/:id',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'getBuild',
        summary: 'One build: state, steps, artifacts, and why it waits or failed.',
        tags,
        params: BuildParams,
        response: { 200: Type.Ref('Build#'), ...faults },
      },
    },
    async (request, reply) => {
      const id = parseBuildId(request.params.id);
      const build = await builds.get(tenantOf(request), id, request.state.call());
      // Progress and the queue before it move without raising the version.
      const tag = isTerminal(build.state) ? strongTag(build.version) : undefined;
      if (tag !== undefined) reply.header('etag', tag);
      if (tag !== undefined && matchesTag(request.headers['if-none-match'], tag)) {
        return reply.code(304).send();
      }
      return reply.send(presentBuild(build));
    },
  );

  app.post(
    '/v1/builds/:id/cancel',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'cancelBuild',
        summary: 'Asks for a build to stop. Repeating it changes nothing.',
        tags,
        params: BuildParams,
        response: { 202: Type.Ref('Build#'), ...faults },
      },
    },
    async (request, reply) => {
      const id = parseBuildId(request.params.id);
      const build = await builds.cancel(
        callerOf(request),
        tenantOf(request),
        id,
        request.state.call(),
      );
      return reply.code(202).send(presentBuild(build));
    },
  );

  app.delete(
    '/v1/builds/:id',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'deleteBuild',
        summary: 'Deletes a build and its artifacts.',
        tags,
        params: BuildParams,
        querystring: Type.Object(
          {
            force: Type.Optional(
              Type.Boolean({ description: 'Also when it runs: it is cancelled first.' }),
            ),
          },
          strict,
        ),
        response: { 204: Type.Null({ description: 'Deleted.' }), ...faults },
      },
    },
    async (request, reply) => {
      const id = parseBuildId(request.params.id);
      const { force = false } = request.query;
      await builds.delete(callerOf(request), tenantOf(request), id, {
        ...request.state.call(),
        force,
      });
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/v1/stats',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'getStats',
        summary: 'Builds of a period in numbers.',
        tags,
        querystring: Type.Object(
          {
            from: Type.Optional(Time('Start.')),
            to: Type.Optional(Time('End.')),
          },
          strict,
        ),
        response: {
          200: Type.Object({
            totalBuilds: Count('All.'),
            successfulBuilds: Count('Completed.'),
            failedBuilds: Count('Failed.'),
            averageBuildMs: Type.Number(),
            totalStorageBytes: Count('Of their artifacts.'),
            totalComputeMinutes: Count('Full minutes that they ran, all together.'),
            recentBuilds: Type.Array(Type.Ref('Build#')),
          }),
          ...faults,
        },
      },
    },
    async (request) => {
      const from = parseTime(request.query.from, 'from');
      const to = parseTime(request.query.to, 'to');
      const period = {
        ...(from === undefined ? {} : { from }),
        ...(to === undefined ? {} : { to }),
      };
      const stats = await builds.stats(tenantOf(request), period, request.state.call());
      return { ...stats, recentBuilds: stats.recentBuilds.map(presentBuild) };
    },
  );
}
