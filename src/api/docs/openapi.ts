import swagger from '@fastify/swagger';
import type { FastifySchema, RouteOptions } from 'fastify';
import { Type } from '../../core/schema/schema-builders.ts';
import type { ApiApp } from '../api-options.ts';

const TAGS: Readonly<Record<string, string>> = {
  builds: 'Ask for builds, watch them, stop them.',
  logs: 'What builds say.',
  artifacts: 'What builds leave.',
  tenants: 'Who may build. For operators.',
  quotas: 'What a tenant may use, uses, and was refused.',
  tokens: 'Who may call.',
  credentials: 'Logins for registries and Git hosts; write-only.',
  events: 'What happened, in order.',
  webhooks: 'The same, delivered.',
  audit: 'Who changed what.',
  health: 'For load balancers and operators.',
};

/** Registers the generator; it must come before the routes, as it looks at each when it is added. */
export async function addOpenApi(app: ApiApp, version: string): Promise<void> {
  await app.register(swagger, {
    hideUntagged: true,
    exposeHeadRoutes: true,
    convertConstToEnum: false,
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'builderd',
        version,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        description:
          'Turns container images into bootable root filesystems. Times are RFC 3339 in UTC. Faults are RFC 9457 problems; programs decide by their `code`. Lists have cursors. `POST /v1/builds` takes an `Idempotency-Key`.',
      },
      servers: [{ url: '/' }],
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: {
        securitySchemes: {
          token: {
            type: 'http',
            scheme: 'bearer',
            description: 'A token of the service, or a JWT of a configured issuer.',
          },
        },
      },
      security: [{ token: [] }],
    },
    transform: ({ schema, url, route }) => ({ schema: withGuard(schema, route), url }),
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject;
      nameAnswers(document.openapiObject);
      return document.openapiObject;
    },
    refResolver: {
      buildLocalReference: (schema, _base, _fragment, index) =>
        typeof schema['$id'] === 'string' ? schema['$id'] : `schema${index}`,
    },
  });
}

const TENANT_HEADER = Type.String({
  maxLength: 63,
  description: 'Chooses among the tenants that the token may act for.',
});

/** What the gate demands is part of the contract, so the document says it. */
function withGuard(schema: FastifySchema | undefined, route: RouteOptions): FastifySchema {
  const guard = route.config?.guard;
  if (schema === undefined || guard === undefined) return schema ?? {};
  if (guard.access === 'public') return { ...schema, security: [] };
  if (guard.tenant === 'none') return schema;
  const headers: unknown = schema.headers;
  const known: unknown =
    typeof headers === 'object' && headers !== null
      ? Reflect.get(headers, 'properties')
      : undefined;
  const properties = typeof known === 'object' && known !== null ? known : {};
  return {
    ...schema,
    headers: { type: 'object', properties: { 'x-tenant-id': TENANT_HEADER, ...properties } },
  };
}

const ANSWERS = new Map([
  ['200', 'The answer.'],
  ['201', 'Made.'],
  ['202', 'Accepted.'],
]);

/** The generator says "Default Response" where a schema has no description of its own. */
function nameAnswers(value: object): void {
  for (const [key, member] of Object.entries(value)) {
    if (typeof member !== 'object' || member === null) continue;
    const name = ANSWERS.get(key);
    if (name !== undefined && Reflect.get(member, 'description') === 'Default Response') {
      Reflect.set(member, 'description', name);
    }
    nameAnswers(member);
  }
}
