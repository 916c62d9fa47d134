import {
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from '@connectrpc/connect';
import type { UniversalHandler } from '@connectrpc/connect/protocol';
import {
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { RouteExtension } from '../api-options.ts';
import type { RouteAccess } from '../auth/access.ts';
import { builderHandlers } from './builder-handlers.ts';
import { BuilderService } from './generated/builder_pb.js';
import { answerRpcFault } from './rpc-fault.ts';

const READ: RouteAccess = { access: 'read', tenant: 'deferred' };
const WRITE: RouteAccess = { access: 'write', tenant: 'deferred' };
const WRITES = new Set(['CreateBuild', 'CancelBuild', 'DeleteBuild']);

/** The service under its first and its later name; the messages are equal on the wire. */
const NAMES = [BuilderService.typeName, 'deploy.builderd.v1.BuilderService'];

/** A page of 500 builds with their configurations. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** The longest deadline that a client may ask for; a followed log ends with its build. */
const MAX_DEADLINE_MS = 24 * 60 * 60_000;

const requestKey = createContextKey<FastifyRequest | undefined>(undefined);

/** The RPC service, as an extension of the API. Compressed messages are refused: no bombs. */
export function rpcExtension(log: Log): RouteExtension {
  return async (app, context) => {
    app.removeAllContentTypeParsers();
    // The messages are read by the protocol's own handler, which holds them to readMaxBytes.
    app.addContentTypeParser('*', (_request, _payload, done) => done(null));
    app.setErrorHandler((reason, request, reply) => answerRpcFault(reason, request, reply, log));
    const router = createConnectRouter({
      readMaxBytes: context.limits.bodyBytes,
      writeMaxBytes: MAX_ANSWER_BYTES,
      maxTimeoutMs: MAX_DEADLINE_MS,
      acceptCompression: [],
      jsonOptions: { ignoreUnknownFields: false },
    });
    router.service(BuilderService, builderHandlers(context, { log, requestOf }));
    for (const handler of router.handlers) {
      for (const name of NAMES) {
        app.post(
          `/${name}/${handler.method.name}`,
          { config: { guard: WRITES.has(handler.method.name) ? WRITE : READ } },
          (request, reply) => serve(handler, request, reply),
        );
      }
    }
  };
}

async function serve(
  handler: UniversalHandler,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const values = createContextValues().set(requestKey, request);
  const answer = await handler(
    universalRequestFromNodeRequest(request.raw, reply.raw, undefined, values),
  );
  reply.hijack();
  // What the gate decided to tell, such as the rate limit; the protocol's own headers win.
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value);
  }
  try {
    await universalResponseToNodeResponse(answer, reply.raw);
  } catch (reason) {
    // The client left in the middle of an answer: there is nobody to tell.
    if (!reply.raw.destroyed && errnoOf(reason) !== 'ERR_STREAM_PREMATURE_CLOSE') throw reason;
  }
  return reply;
}

function requestOf({ values }: HandlerContext): FastifyRequest {
  const request = values.get(requestKey);
  if (request !== undefined) return request;
  throw new BuilderdError('internal', 'Cannot find the request of an RPC');
}
