import {
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from '@connectrpc/connect';
import type { UniversalHandler, UniversalServerRequest } from '@connectrpc/connect/protocol';
import {
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { ApiLimits } from '../api-limits.ts';
import type { RouteExtension } from '../api-options.ts';
import type { RouteAccess } from '../auth/access.ts';
import { builderHandlers } from './builder-handlers.ts';
import { BuilderService } from './generated/builder_pb.js';
import { answerRpcFault, rpcFault } from './rpc-fault.ts';
import { watchAnswer } from './watch-answer.ts';
import { callFormOf, strictCallBody } from './strict-call-body.ts';

const READ: RouteAccess = { access: 'read', tenant: 'deferred' };
const WRITE: RouteAccess = { access: 'write', tenant: 'deferred' };
const WRITES = new Set(['CreateBuild', 'CancelBuild', 'DeleteBuild']);

/** The service under its first and its later name; the messages are equal on the wire. */
const NAMES = [BuilderService.typeName, 'deploy.builderd.v1.BuilderService'];

/** One build with all that its image says, and the first lines of its log; pages of a list are smaller. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** The longest deadline that a client may ask for; a followed log ends with its build. */
const MAX_DEADLINE_MS = 24 * 60 * 60_000;

interface Call {
  readonly request: FastifyRequest;
  /** Its message could be read: what goes wrong from here on is our fault. */
  isHandled: boolean;
}

const callKey = createContextKey<Call | undefined>(undefined);

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
          (request, reply) => serve(handler, request, reply, { limits: context.limits, log }),
        );
      }
    }
  };
}

interface ServeOptions {
  readonly limits: ApiLimits;
  readonly log: Log;
}

async function serve(
  handler: UniversalHandler,
  request: FastifyRequest,
  reply: FastifyReply,
  options: ServeOptions,
): Promise<FastifyReply> {
  const call: Call = { request, isHandled: false };
  const answer = watchAnswer(
    await handler(universalCall(call, handler, reply, options)),
    (words) => {
      if (!call.isHandled) return;
      const err = new BuilderdError('internal', `Cannot send the answer: ${words}`);
      options.log.error({ err, requestId: request.id, code: err.code }, 'Answer could not be sent');
    },
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
    if (!reply.raw.destroyed && errnoOf(reason) !== 'ERR_STREAM_PREMATURE_CLOSE') {
      options.log.error({ err: reason, requestId: request.id }, 'Answer broke off');
    }
    // The framework leaves a reply alone that it no longer owns.
    reply.raw.destroy();
  }
  return reply;
}

/** The call as the protocol's handler takes it, behind a check of its messages. */
function universalCall(
  call: Call,
  { method }: UniversalHandler,
  reply: FastifyReply,
  { limits, log }: ServeOptions,
): UniversalServerRequest {
  const { request } = call;
  const values = createContextValues().set(callKey, call);
  const plain = universalRequestFromNodeRequest(request.raw, reply.raw, undefined, values);
  const { body } = plain;
  if (!isByteStream(body)) return plain;
  const form = { ...callFormOf(request.headers['content-type']), input: method.input };
  const strict = strictCallBody(body, form, {
    maxBytes: limits.bodyBytes,
    maxDepth: limits.jsonDepth,
    maxKeys: limits.jsonKeys,
  });
  return { ...plain, body: inProtocolWords(strict, request, log) };
}

/** Faults of a body are the caller's, and said in the protocol's way. */
async function* inProtocolWords(
  body: AsyncIterable<Uint8Array>,
  request: FastifyRequest,
  log: Log,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (reason) {
    throw rpcFault(reason, request, log);
  }
}

function isByteStream(body: UniversalServerRequest['body']): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body;
}

function requestOf({ values }: HandlerContext): FastifyRequest {
  const call = values.get(callKey);
  if (call === undefined) throw new BuilderdError('internal', 'Cannot find the request of an RPC');
  call.isHandled = true;
  return call.request;
}
