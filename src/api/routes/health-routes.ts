import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from '../../core/schema/schema-builders.ts';
import { asBuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { ApiApp, HealthPort } from '../api-options.ts';
import { HEALTH, OPERATOR } from '../auth/access.ts';
import { faults } from '../schemas/field-schemas.ts';

/** Answers of `/health/ready` are kept this long: it asks the database, and anyone may ask it. */
const READY_MS = 1000;
/** A service that starts is waited for. */
const UNREADY_MS = 100;
const tags = ['health'];
const word = { description: 'One word.', content: { 'text/plain': { schema: Type.String() } } };

export function addHealthRoutes(
  app: ApiApp,
  {
    health,
    log,
    nowMs,
  }: { readonly health: HealthPort; readonly log: Log; readonly nowMs: () => number },
): void {
  const schema = {
    summary: 'Does the process serve? 503 only while it starts or drains.',
    tags,
    security: [],
    response: { 200: word, 503: word },
  };
  const answerPhase = async (_request: FastifyRequest, reply: FastifyReply) => {
    const phase = health.phase();
    const isServing = phase === 'serving';
    return reply
      .code(isServing ? 200 : 503)
      .type('text/plain; charset=utf-8')
      .send(isServing ? 'ok\n' : `${phase}\n`);
  };
  app.get(
    '/health',
    { config: { guard: HEALTH }, schema: { ...schema, operationId: 'health' } },
    answerPhase,
  );
  app.head('/health', { config: { guard: HEALTH }, schema: { hide: true } }, answerPhase);

  let known: { readonly isReady: boolean; readonly at: number } | undefined;
  let asking: Promise<boolean> | undefined;
  const ask = async (): Promise<boolean> => {
    try {
      // Shared by all who ask now, so not ended by one of them leaving.
      const problems = await health.problems({ signal: AbortSignal.timeout(READY_MS * 3) });
      return problems.length === 0;
    } catch (reason) {
      log.warn({ err: asBuilderdError(reason, 'ask for readiness') }, 'Readiness cannot be told');
      return false;
    } finally {
      asking = undefined;
    }
  };
  const answerReady = async (_request: FastifyRequest, reply: FastifyReply) => {
    const now = nowMs();
    const keptMs = known?.isReady === true ? READY_MS : UNREADY_MS;
    if (known === undefined || now - known.at > keptMs) {
      asking ??= ask();
      known = { isReady: await asking, at: nowMs() };
    }
    const isReady = known.isReady && health.phase() === 'serving';
    return reply
      .code(isReady ? 200 : 503)
      .type('text/plain; charset=utf-8')
      .send(isReady ? 'ready\n' : 'unready\n');
  };
  app.get(
    '/health/ready',
    {
      config: { guard: HEALTH },
      schema: {
        ...schema,
        operationId: 'ready',
        summary:
          'Can builds be taken? For load balancers: database, and an executor whose runtime is up.',
      },
    },
    answerReady,
  );
  app.head('/health/ready', { config: { guard: HEALTH }, schema: { hide: true } }, answerReady);

  const status = health.status?.bind(health);
  if (status === undefined) return;
  app.get(
    '/debug/status',
    {
      config: { guard: OPERATOR },
      schema: {
        operationId: 'status',
        summary: 'What the service knows about itself. For operators.',
        tags,
        response: {
          200: Type.Unknown({ description: 'A report for people; its form may change.' }),
          ...faults,
        },
      },
    },
    async (request) => status(request.state.call()),
  );
}
