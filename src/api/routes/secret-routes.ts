import { Type } from '../../core/schema/schema-builders.ts';
import { BuilderdError } from '../../core/errors.ts';
import { isUuid } from '../../core/ids.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { type RouteAccess, TENANT_READ, TENANT_WRITE } from '../auth/access.ts';
import { callerOf, tenantOf } from '../auth/request-state.ts';
import { faults, strict } from '../schemas/field-schemas.ts';
import { presentCredential, presentToken, RoleSchema } from '../schemas/tenant-schema.ts';

const IdParams = Type.Object({ id: Type.String({ maxLength: 100, description: 'Its id.' }) });
const TOKENS: RouteAccess = { access: 'write', tenant: 'optional' };
const secretText = (maxLength: number, description: string) =>
  Type.Optional(
    Type.String({
      minLength: 1,
      maxLength,
      pattern: '^[^\\u0000]*$',
      writeOnly: true,
      description,
    }),
  );

/** Tokens of the API, and credentials for registries and Git hosts, which can be set but never read. */
export function addSecretRoutes(app: ApiApp, { tenants }: ApiContext): void {
  addTokenRoutes(app, tenants);
  app.get(
    '/v1/credentials',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listCredentials',
        summary: 'Hosts that credentials are stored for.',
        tags: ['credentials'],
        response: {
          200: Type.Object({ credentials: Type.Array(Type.Ref('Credential#')) }),
          ...faults,
        },
      },
    },
    async (request) => {
      const found = await tenants.listCredentials(tenantOf(request), request.state.call());
      return { credentials: found.map(presentCredential) };
    },
  );
  app.put(
    '/v1/credentials',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'putCredential',
        summary: 'Stores the credential of a host, in place of the one there was.',
        tags: ['credentials'],
        body: Type.Object(
          {
            kind: Type.Enum(['registry', 'git']),
            host: Type.String({
              minLength: 1,
              maxLength: 260,
              pattern: '^[A-Za-z0-9.\\[\\]:_-]+$',
              description: 'Exact host, with its port if it has one.',
            }),
            username: Type.Optional(Type.String({ maxLength: 256, pattern: '^[^\\u0000]*$' })),
            password: secretText(4096, 'Password.'),
            token: secretText(16_384, 'Token instead of user and password.'),
            sshKey: secretText(65_536, 'Private key, for Git.'),
          },
          strict,
        ),
        response: { 200: Type.Ref('Credential#'), ...faults },
      },
    },
    async (request) => {
      const stored = await tenants.putCredential(
        callerOf(request),
        tenantOf(request),
        request.body,
        request.state.call(),
      );
      return presentCredential(stored);
    },
  );
  app.delete(
    '/v1/credentials/:id',
    {
      config: { guard: TENANT_WRITE },
      schema: {
        operationId: 'deleteCredential',
        summary: 'Forgets a credential.',
        tags: ['credentials'],
        params: IdParams,
        response: { 204: Type.Null({ description: 'Forgotten.' }), ...faults },
      },
    },
    async (request, reply) => {
      const id = knownForm(request.params.id, 'credential');
      await tenants.deleteCredential(
        callerOf(request),
        tenantOf(request),
        id,
        request.state.call(),
      );
      return reply.code(204).send(null);
    },
  );
}

function addTokenRoutes(app: ApiApp, tenants: ApiContext['tenants']): void {
  const tags = ['tokens'];
  app.get(
    '/v1/tokens',
    {
      config: { guard: TOKENS },
      schema: {
        operationId: 'listTokens',
        summary: "The tenant's tokens; for an operator without X-Tenant-ID all of them.",
        description: 'Those that work come first, newest first. Ended ones go after 30 days.',
        tags,
        querystring: Type.Object(
          {
            limit: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 500, description: 'Default 500.' }),
            ),
            cursor: Type.Optional(
              Type.String({ maxLength: 100, description: 'nextCursor of the page before.' }),
            ),
          },
          strict,
        ),
        response: {
          200: Type.Object({
            tokens: Type.Array(Type.Ref('Token#')),
            nextCursor: Type.Optional(Type.String()),
          }),
          ...faults,
        },
      },
    },
    async (request) => {
      const { tenant } = request.state;
      const { limit, cursor } = request.query;
      const { tokens, nextCursor } = await tenants.listTokens(callerOf(request), tenant, {
        ...request.state.call(),
        ...(limit === undefined ? {} : { limit }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      return {
        tokens: tokens.map(presentToken),
        ...(nextCursor === undefined ? {} : { nextCursor }),
      };
    },
  );
  app.post(
    '/v1/tokens',
    {
      config: { guard: TOKENS },
      schema: {
        operationId: 'createToken',
        summary: 'Makes a token. Its secret is in this answer and nowhere else.',
        tags,
        body: Type.Object(
          {
            role: RoleSchema,
            name: Type.String({
              minLength: 1,
              maxLength: 200,
              pattern: '^[^\\u0000]*$',
              description: 'For people.',
            }),
            ttlSeconds: Type.Optional(
              Type.Integer({
                minimum: 60,
                maximum: 315_360_000,
                description: 'Without it, it ends with the credential that makes it, if that ends.',
              }),
            ),
          },
          strict,
        ),
        response: {
          201: Type.Object({
            token: Type.Ref('Token#'),
            secret: Type.String({ description: 'Shown once.' }),
          }),
          ...faults,
        },
      },
    },
    async (request, reply) => {
      const { role, name, ttlSeconds } = request.body;
      const { tenant } = request.state;
      const { token, secret } = await tenants.createToken(
        callerOf(request),
        {
          role,
          name,
          ...(tenant === undefined ? {} : { tenant }),
          ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
        },
        request.state.call(),
      );
      return reply
        .code(201)
        .header('location', `/v1/tokens/${token.id}`)
        .send({ token: presentToken(token), secret });
    },
  );
  app.delete(
    '/v1/tokens/:id',
    {
      config: { guard: TOKENS },
      schema: {
        operationId: 'revokeToken',
        summary: 'Revokes a token; it stops to work within five seconds.',
        description:
          "Goes on with the tokens that it made, and theirs; of an operator's token only with operators' tokens.",
        tags,
        params: IdParams,
        querystring: Type.Object(
          {
            cascade: Type.Optional(
              Type.Boolean({
                description:
                  "true: also tenants' tokens that an operator's token made; false: this token alone.",
              }),
            ),
          },
          strict,
        ),
        response: { 204: Type.Null({ description: 'Revoked.' }), ...faults },
      },
    },
    async (request, reply) => {
      const id = knownForm(request.params.id, 'token');
      const { cascade } = request.query;
      await tenants.revokeToken(callerOf(request), request.state.tenant, id, {
        ...request.state.call(),
        ...(cascade === undefined ? {} : { cascade }),
      });
      return reply.code(204).send(null);
    },
  );
}

/** An id that cannot exist is answered like one that does not, and asks no database. */
export function knownForm(raw: string, what: string): string {
  if (isUuid(raw)) return raw;
  throw new BuilderdError('api.not_found', `Cannot find the ${what}: there is none with this id`);
}
