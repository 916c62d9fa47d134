import { Code, ConnectError } from '@connectrpc/connect';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { BuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { faultOf } from '../http/fault-answer.ts';
import { problemOf, retryAfterOf } from '../http/problem.ts';
import { encodeGrpcMessage } from './grpc-message.ts';

/** In the metadata of each fault that we worded. */
export const ERROR_CODE = 'builderd-error-code';

/** Our statuses as Connect codes; of what is not here 4xx are the caller's, the rest is internal. */
const CODES = new Map<number, Code>([
  [400, Code.InvalidArgument],
  [401, Code.Unauthenticated],
  [403, Code.PermissionDenied],
  [404, Code.NotFound],
  [408, Code.DeadlineExceeded],
  [409, Code.FailedPrecondition],
  [410, Code.DataLoss],
  [412, Code.FailedPrecondition],
  [413, Code.ResourceExhausted],
  [422, Code.InvalidArgument],
  [429, Code.ResourceExhausted],
  [501, Code.Unimplemented],
  [503, Code.Unavailable],
  [507, Code.ResourceExhausted],
]);

/** The words are those of the problem document: faults of the platform are told by their id only. */
export function connectErrorOf(fault: BuilderdError, requestId: string): ConnectError {
  const { status, detail, code, hint } = problemOf(fault, requestId);
  // Header values are ASCII: sentences go into the message.
  const metadata = new Headers({
    [ERROR_CODE]: code,
    'builderd-request-id': requestId,
  });
  const retryAfter = retryAfterOf(fault, status);
  if (retryAfter !== undefined) metadata.set('retry-after', String(retryAfter));
  const others = status < 500 ? Code.InvalidArgument : Code.Internal;
  const connectCode = code === 'not_supported' ? Code.Unimplemented : (CODES.get(status) ?? others);
  return new ConnectError(`${detail}. ${hint}`, connectCode, metadata);
}

/** Any fault of a handler, logged when it is ours. */
export function rpcFault(reason: unknown, request: FastifyRequest, log: Log): ConnectError {
  if (reason instanceof ConnectError) return reason;
  const fault = faultOf(reason);
  if (fault.entry.fault === 'platform') {
    const fields = { err: fault, requestId: request.id, code: fault.code };
    if (fault.code === 'service.unavailable') log.warn(fields, 'Request could not be served');
    else log.error(fields, 'Request failed');
  }
  return connectErrorOf(fault, request.id);
}

/**
 * What the gate refused before the handler, in the protocol that the client speaks: a gRPC client
 * reads `grpc-status` of a 200, a Connect client an error document.
 */
export function answerRpcFault(
  reason: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  log: Log,
): FastifyReply {
  const fault = faultOf(reason);
  const error = rpcFault(fault, request, log);
  const type = request.headers['content-type'] ?? '';
  if (type.startsWith('application/grpc')) {
    return answerWithHeaders(reply, {
      ...reply.getHeaders(),
      'content-type': type,
      'grpc-status': String(error.code),
      'grpc-message': encodeGrpcMessage(error.rawMessage),
      ...Object.fromEntries(error.metadata),
    });
  }
  const { status } = problemOf(fault, request.id);
  if (status === 401) reply.header('www-authenticate', 'Bearer realm="builderd"');
  return reply
    .code(status)
    .headers(Object.fromEntries(error.metadata))
    .type('application/json')
    .send(JSON.stringify({ code: codeName(error.code), message: error.rawMessage }));
}

/**
 * A gRPC client takes a status out of headers only when they end the stream. Fastify writes the head
 * before it ends, and the end is then a frame of its own.
 */
function answerWithHeaders(
  reply: FastifyReply,
  headers: Readonly<Record<string, string | number | string[] | undefined>>,
): FastifyReply {
  reply.hijack();
  const { raw } = reply;
  raw.statusCode = 200;
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) raw.setHeader(name, value);
  }
  raw.end();
  return reply;
}

/** `InvalidArgument` as the Connect protocol writes it: `invalid_argument`. */
function codeName(code: Code): string {
  return Code[code].replaceAll(/(?<!^)([A-Z])/g, '_$1').toLowerCase();
}
