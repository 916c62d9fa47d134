import type { FastifyRequest } from 'fastify';
import { Type } from '../../core/schema/schema-builders.ts';
import type { TenantService, TenantView } from '../../builds/service/tenant-service.ts';
import { isBuilderdError } from '../../core/errors.ts';
import { parseTenantName } from '../../core/ids.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { OPERATOR, OPERATOR_IN_TENANT, type RouteAccess, TENANT_READ } from '../auth/access.ts';
import { callerOf, tenantOf } from '../auth/request-state.ts';
import { parseIfMatch, strongTag } from '../http/entity-tag.ts';
import { StatusFault } from '../http/problem.ts';
import { faults, strict } from '../schemas/field-schemas.ts';
import {
  OverridesSchema,
  presentTenant,
  QuotaChangeSchema,
  TenantNameSchema,
  TierSchema,
} from '../schemas/tenant-schema.ts';

const tags = ['tenants'];
const TenantParams = Type.Object({
  tenant: Type.String({ maxLength: 100, description: 'Name of the tenant.' }),
});
const IfMatch = Type.Object({
  'if-match': Type.Optional(
    Type.String({ description: 'ETag of what you read: 412 when it changed.' }),
  ),
});
const DryRun = Type.Object(
  {
    dryRun: Type.Optional(
      Type.Boolean({ description: 'Check it, answer what would be, and change nothing.' }),
    ),
  },
  strict,
);
/** A tenant may read itself by name; the door holds the name against the caller. */
const NAMED_TENANT: RouteAccess = { access: 'read', tenant: 'deferred' };

export function addTenantRoutes(app: ApiApp, { tenants, enterTenant }: ApiContext): void {
  app.get(
    '/v1/tenants',
    {
      config: { guard: OPERATOR },
      schema: {
        operationId: 'listTenants',
        summary: 'All tenants. For operators.',
        tags,
        response: { 200: Type.Object({ tenants: Type.Array(Type.Ref('Tenant#')) }), ...faults },
      },
    },
    async (request) => {
      const all = await tenants.list(callerOf(request), request.state.call());
      return { tenants: all.map(presentTenant) };
    },
  );

  app.post(
    '/v1/tenants',
    {
      config: { guard: OPERATOR },
      schema: {
        operationId: 'createTenant',
        summary: 'Makes a tenant. For operators.',
        tags,
        body: Type.Object(
          {
            name: TenantNameSchema,
            tier: Type.Optional(TierSchema),
            overrides: Type.Optional(OverridesSchema),
          },
          strict,
        ),
        response: { 201: Type.Ref('Tenant#'), ...faults },
      },
    },
    async (request, reply) => {
      const { name, tier, overrides } = request.body;
      const tenant = await tenants.create(
        callerOf(request),
        {
          name: parseTenantName(name),
          ...(tier === undefined ? {} : { tier }),
          ...(overrides === undefined ? {} : { overrides }),
        },
        request.state.call(),
      );
      return reply
        .code(201)
        .header('location', `/v1/tenants/${tenant.name}`)
        .header('etag', strongTag(tenant.version))
        .send(presentTenant(tenant));
    },
  );

  app.get(
    '/v1/tenants/:tenant',
    {
      config: { guard: NAMED_TENANT },
      schema: {
        operationId: 'getTenant',
        summary: 'One tenant with its quotas.',
        tags,
        params: TenantParams,
        response: { 200: Type.Ref('Tenant#'), ...faults },
      },
    },
    async (request, reply) => {
      const ref = await enterTenant(request, parseTenantName(request.params.tenant));
      const tenant = await tenants.get(ref, request.state.call());
      return reply.header('etag', strongTag(tenant.version)).send(presentTenant(tenant));
    },
  );

  app.patch(
    '/v1/tenants/:tenant',
    {
      config: { guard: { access: 'operator', tenant: 'deferred' } },
      schema: {
        operationId: 'updateTenant',
        summary: 'Changes tier, suspension or quotas of a tenant. For operators.',
        tags,
        params: TenantParams,
        headers: IfMatch,
        querystring: DryRun,
        body: Type.Object(
          {
            tier: Type.Optional(TierSchema),
            suspended: Type.Optional(
              Type.Boolean({
                description: 'It makes and follows nothing; running builds go on.',
              }),
            ),
            overrides: Type.Optional(QuotaChangeSchema),
          },
          { ...strict, minProperties: 1 },
        ),
        response: { 200: Type.Ref('Tenant#'), ...faults },
      },
    },
    async (request, reply) => {
      const { tier, suspended, overrides } = request.body;
      await enterTenant(request, parseTenantName(request.params.tenant));
      const tenant = await update(tenants, request, request.query, {
        ...(tier === undefined ? {} : { tier }),
        ...(suspended === undefined ? {} : { suspended }),
        ...(overrides === undefined ? {} : { overrides }),
      });
      return reply.header('etag', strongTag(tenant.version)).send(presentTenant(tenant));
    },
  );

  app.get(
    '/v1/quotas',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'getQuotas',
        summary: 'What the tenant may use.',
        tags: ['quotas'],
        response: { 200: Type.Ref('Quotas#'), ...faults },
      },
    },
    async (request, reply) => {
      const tenant = await tenants.get(tenantOf(request), request.state.call());
      return reply.header('etag', strongTag(tenant.version)).send(presentTenant(tenant).quotas);
    },
  );

  app.patch(
    '/v1/quotas',
    {
      config: { guard: OPERATOR_IN_TENANT },
      schema: {
        operationId: 'updateQuotas',
        summary:
          'Overrides quotas of the tenant of X-Tenant-ID; null returns to the tier. For operators.',
        tags: ['quotas'],
        headers: IfMatch,
        querystring: DryRun,
        body: QuotaChangeSchema,
        response: { 200: Type.Ref('Quotas#'), ...faults },
      },
    },
    async (request, reply) => {
      const tenant = await update(tenants, request, request.query, {
        overrides: request.body,
      });
      return reply.header('etag', strongTag(tenant.version)).send(presentTenant(tenant).quotas);
    },
  );
}

async function update(
  tenants: TenantService,
  request: FastifyRequest,
  { dryRun = false }: { readonly dryRun?: boolean },
  change: Parameters<TenantService['update']>[2],
): Promise<TenantView> {
  const ifVersion = parseIfMatch(request.headers['if-match']);
  try {
    return await tenants.update(callerOf(request), tenantOf(request), change, {
      ...request.state.call(),
      dryRun,
      ...(ifVersion === undefined ? {} : { ifVersion }),
    });
  } catch (reason) {
    if (ifVersion === undefined || !isBuilderdError(reason, 'api.conflict')) throw reason;
    throw new StatusFault(412, 'api.conflict', reason.message, { cause: reason });
  }
}
