import { Type } from '../../core/schema/schema-builders.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { TENANT_READ } from '../auth/access.ts';
import { tenantOf } from '../auth/request-state.ts';
import { parseDay } from '../http/time-value.ts';
import { faults, strict } from '../schemas/field-schemas.ts';
import { presentViolation } from '../schemas/tenant-schema.ts';

const tags = ['quotas'];
const MAX_DAYS = 400;

export function addUsageRoutes(app: ApiApp, { tenants }: ApiContext): void {
  app.get(
    '/v1/usage',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'getUsage',
        summary: 'What the tenant uses now and used today.',
        tags,
        response: { 200: Type.Ref('Usage#'), ...faults },
      },
    },
    async (request) => tenants.usage(tenantOf(request), request.state.call()),
  );

  app.get(
    '/v1/usage/days',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listUsageDays',
        summary: 'Usage by UTC day.',
        tags,
        querystring: Type.Object(
          {
            from: Type.String({ description: 'First day, 2026-11-01.' }),
            to: Type.String({ description: 'Last day, included.' }),
          },
          strict,
        ),
        response: { 200: Type.Object({ days: Type.Array(Type.Ref('UsageDay#')) }), ...faults },
      },
    },
    async (request) => {
      const from = parseDay(request.query.from, 'from');
      const to = parseDay(request.query.to, 'to');
      const days = (Date.parse(to) - Date.parse(from)) / 86_400_000 + 1;
      if (days < 1 || days > MAX_DAYS) {
        throw new BuilderdError(
          'api.invalid',
          `Cannot list usage: want 1 to ${MAX_DAYS} days, from before to`,
        );
      }
      return {
        days: await tenants.usageDays(tenantOf(request), { from, to }, request.state.call()),
      };
    },
  );

  app.get(
    '/v1/violations',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listViolations',
        summary: 'What was refused for want of quota, newest first.',
        tags,
        querystring: Type.Object(
          {
            limit: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 500, description: 'Default 100.' }),
            ),
          },
          strict,
        ),
        response: {
          200: Type.Object({ violations: Type.Array(Type.Ref('Violation#')) }),
          ...faults,
        },
      },
    },
    async (request) => {
      const { limit = 100 } = request.query;
      const found = await tenants.violations(tenantOf(request), { ...request.state.call(), limit });
      return { violations: found.map(presentViolation) };
    },
  );
}
