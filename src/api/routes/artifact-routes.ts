import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from '../../core/schema/schema-builders.ts';
import type { ArtifactView } from '../../builds/service/views.ts';
import { BuilderdError } from '../../core/errors.ts';
import { parseBuildId } from '../../core/ids.ts';
import type { ApiApp, ApiContext } from '../api-options.ts';
import { TENANT_READ } from '../auth/access.ts';
import { tenantOf } from '../auth/request-state.ts';
import { attachment } from '../http/content-disposition.ts';
import { digestField } from '../http/digest-fields.ts';
import { holdsIfRange, matchesTag, strongTag } from '../http/entity-tag.ts';
import { StatusFault } from '../http/problem.ts';
import { chooseRange } from '../http/range.ts';
import { presentArtifact } from '../schemas/build-schema.ts';
import { BuildParams, faults } from '../schemas/field-schemas.ts';
import { noteBroken } from '../streams/note-broken.ts';
import { pacedStream } from '../streams/paced-stream.ts';

const tags = ['artifacts'];
const ArtifactParams = Type.Object({
  id: BuildParams.properties.id,
  name: Type.String({ maxLength: 200, description: 'Name of the artifact, such as rootfs.ext4.' }),
});
/** What an artifact can be called at all; anything else is answered like one that does not exist. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

const bytes = {
  description: 'The bytes.',
  content: { 'application/octet-stream': { schema: Type.String({ contentEncoding: 'binary' }) } },
};

export function addArtifactRoutes(app: ApiApp, context: ApiContext): void {
  const { builds } = context;
  app.get(
    '/v1/builds/:id/artifacts',
    {
      config: { guard: TENANT_READ },
      schema: {
        operationId: 'listArtifacts',
        summary: 'What a build left.',
        tags,
        params: BuildParams,
        response: { 200: Type.Object({ artifacts: Type.Array(Type.Ref('Artifact#')) }), ...faults },
      },
    },
    async (request) => {
      const id = parseBuildId(request.params.id);
      const artifacts = await builds.artifacts(tenantOf(request), id, request.state.call());
      return { artifacts: artifacts.map((each) => presentArtifact(id, each)) };
    },
  );
  const schema = {
    tags,
    params: ArtifactParams,
    headers: Type.Object({
      range: Type.Optional(Type.String({ description: 'One range of bytes.' })),
      'if-range': Type.Optional(Type.String()),
      'if-none-match': Type.Optional(Type.String()),
    }),
    response: {
      200: bytes,
      206: bytes,
      304: Type.Null({ description: 'It is the one you have: artifacts never change.' }),
      ...faults,
    },
  } as const;
  app.get(
    '/v1/builds/:id/artifacts/:name',
    {
      config: { guard: TENANT_READ },
      schema: {
        ...schema,
        operationId: 'getArtifact',
        summary: 'The bytes of an artifact, whole or one range.',
        description:
          'The ETag is the SHA-256 of the plain bytes; Repr-Digest says it in RFC 9530 form.',
      },
    },
    (request, reply) => sendArtifact(context, request, reply, request.params),
  );
  app.head(
    '/v1/builds/:id/artifacts/:name',
    {
      config: { guard: TENANT_READ },
      schema: {
        ...schema,
        operationId: 'getArtifact',
        summary: 'Size and digest of an artifact.',
      },
    },
    async (request, reply) => {
      const artifact = await findArtifact(context, request, request.params);
      describe(reply, artifact);
      return reply.header('content-length', artifact.sizeBytes).send();
    },
  );
}

async function sendArtifact(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  params: { readonly id: string; readonly name: string },
): Promise<FastifyReply> {
  const artifact = await findArtifact(context, request, params);
  const { sizeBytes } = artifact;
  const tag = describe(reply, artifact);
  if (matchesTag(request.headers['if-none-match'], tag)) return reply.code(304).send();
  const ifRange = request.headers['if-range'];
  const wanted = holdsIfRange(typeof ifRange === 'string' ? ifRange : undefined, tag)
    ? request.headers.range
    : undefined;
  const choice = chooseRange(wanted, sizeBytes);
  if (choice.kind === 'unsatisfiable') {
    reply.header('content-range', `bytes */${sizeBytes}`);
    throw new StatusFault(
      416,
      'api.invalid',
      `Cannot give that range: the artifact has ${sizeBytes} bytes`,
    );
  }
  const control = new AbortController();
  const signal = AbortSignal.any([request.state.streamSignal(), control.signal]);
  const place = context.openDownload(tenantOf(request));
  const { body } = await context.builds
    .openArtifact(
      tenantOf(request),
      parseBuildId(params.id),
      artifact.name,
      choice.kind === 'span' ? { signal, range: choice.span } : { signal },
    )
    .catch((reason: unknown) => {
      place[Symbol.dispose]();
      throw reason;
    });
  if (choice.kind === 'span') {
    const { start, end } = choice.span;
    reply
      .code(206)
      .header('content-range', `bytes ${start}-${end}/${sizeBytes}`)
      .header('content-length', end - start + 1);
  } else {
    const field = digestField(artifact.digest);
    if (field !== undefined) reply.header('content-digest', field);
    reply.header('content-length', sizeBytes);
  }
  return reply.send(
    pacedStream(body, {
      stalledMs: context.limits.stalledMs,
      abort: (reason) => control.abort(reason),
      onEnd: () => {
        body.destroy();
        place[Symbol.dispose]();
      },
      onFault: noteBroken(context.log, request),
    }),
  );
}

async function findArtifact(
  { builds }: ApiContext,
  request: FastifyRequest,
  { id, name }: { readonly id: string; readonly name: string },
): Promise<ArtifactView> {
  const all = await builds.artifacts(tenantOf(request), parseBuildId(id), request.state.call());
  const artifact = NAME.test(name) ? all.find((each) => each.name === name) : undefined;
  if (artifact !== undefined) return artifact;
  throw new BuilderdError(
    'api.not_found',
    'Cannot find the artifact: the build has none of this name',
  );
}

/** Headers of the artifact as a whole; gives its entity tag. */
function describe(reply: FastifyReply, { name, digest }: ArtifactView): string {
  const tag = strongTag(digest);
  const field = digestField(digest);
  reply
    .header('etag', tag)
    .header('accept-ranges', 'bytes')
    .header('content-disposition', attachment(name))
    .header('cache-control', 'private, no-transform')
    .type('application/octet-stream');
  if (field !== undefined) reply.header('repr-digest', field);
  return tag;
}
