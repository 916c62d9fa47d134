import { Type } from '../../core/schema/schema-builders.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import type { RouteAccess } from '../auth/access.ts';
import { callerOf } from '../auth/request-state.ts';
import { parseTime } from '../http/time-value.ts';
import { faults, strict, Time } from '../schemas/field-schemas.ts';
import { presentAudit } from '../schemas/tenant-schema.ts';

const AUDITORS: RouteAccess = { access: 'operator', tenant: 'optional' };

export function addAuditRoutes(app: ApiApp, { tenants }: ApiContext): void {
  app.get(
    '/v1/audit',
    {
      config: { guard: AUDITORS },
      schema: {
        operationId: 'listAudit',
        summary: 'Who changed what, newest first; with X-Tenant-ID of one tenant. For operators.',
        tags: ['audit'],
        querystring: Type.Object(
          {
            limit: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 500, description: 'Default 100.' }),
            ),
            before: Type.Optional(Time('Only what is older.')),
          },
          strict,
        ),
        response: { 200: Type.Object({ entries: Type.Array(Type.Ref('AuditEntry#')) }), ...faults },
      },
    },
    async (request) => {
      const { limit = 100 } = request.query;
      const before = parseTime(request.query.before, 'before');
      const { tenant } = request.state;
      const entries = await tenants.audit(callerOf(request), {
        ...request.state.call(),
        limit,
        ...(before === undefined ? {} : { before }),
        ...(tenant === undefined ? {} : { tenant }),
      });
      return { entries: entries.map(presentAudit) };
    },
  );
}
