import type { FastifyReply, FastifyRequest } from 'fastify';
import { asBuilderdError, BuilderdError, errnoOf } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { problemOf, retryAfterOf, StatusFault } from './problem.ts';

/** Answers a fault as a problem document; faults of the platform are logged here, with their cause. */
export function answerFault(
  reason: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  log: Log,
): FastifyReply {
  const fault = faultOf(reason);
  const problem = problemOf(fault, request.id);
  if (problem.status >= 500 && problem.fault === 'platform') {
    const fields = { err: fault, requestId: request.id, code: fault.code };
    if (fault.code === 'service.unavailable') log.warn(fields, 'Request could not be served');
    else log.error(fields, 'Request failed');
  }
  const retryAfter = retryAfterOf(fault, problem.status);
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter);
  if (problem.status === 401) reply.header('www-authenticate', 'Bearer realm="builderd"');
  for (const name of OF_THE_ANSWER) reply.removeHeader(name);
  reply.header('cache-control', 'no-store');
  // As bytes: the framework would add a charset, which this type does not have.
  const body = Buffer.from(JSON.stringify(problem));
  return reply.code(problem.status).type('application/problem+json').send(body);
}

/** Headers that a handler may have set for an answer that the problem now takes the place of. */
const OF_THE_ANSWER = [
  'accept-ranges',
  'content-digest',
  'content-disposition',
  'content-length',
  'etag',
  'repr-digest',
];

/** The framework's own faults, as ours. */
export function faultOf(reason: unknown): BuilderdError {
  if (reason instanceof BuilderdError) return reason;
  const validation = validationOf(reason);
  if (validation !== undefined)
    return new BuilderdError('api.invalid', `Cannot use the request: ${validation}`);
  switch (errnoOf(reason)) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new BuilderdError('api.too_large', 'Cannot read the request: its body is over 1 MiB');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_CTP_EMPTY_TYPE':
      return new StatusFault(
        415,
        'api.invalid',
        'Cannot read the request: want Content-Type: application/json',
      );
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new BuilderdError(
        'api.invalid',
        'Cannot read the request: its body has another length than it says',
      );
    case 'FST_ERR_BAD_URL':
      return new BuilderdError('api.invalid', 'Cannot read the request: its URL is not valid');
    case 'FST_ERR_MAX_PARAM_LENGTH':
    case 'FST_ERR_NOT_FOUND':
      return notFound();
    case 'ECONNRESET':
    case 'ERR_STREAM_PREMATURE_CLOSE':
      return new BuilderdError('build.cancelled', 'Cannot answer the request: its client left');
    default:
      return asBuilderdError(reason, 'answer the request');
  }
}

export function notFound(): BuilderdError {
  return new BuilderdError('api.no_route', 'Cannot find this: no route has this method and path');
}

interface ValidationFinding {
  readonly instancePath: string;
  readonly message: string;
  readonly property: string | undefined;
}

/** "body/target/label must be string": names what is wrong and never repeats its value. */
function validationOf(reason: unknown): string | undefined {
  if (!(reason instanceof Error) || !('validation' in reason)) return undefined;
  const part: unknown = Reflect.get(reason, 'validationContext');
  const findings: unknown = reason.validation;
  const first = Array.isArray(findings) ? parseFinding(findings[0]) : undefined;
  if (first === undefined) return 'it does not have the form that the OpenAPI document says';
  const where = `${typeof part === 'string' ? part : 'it'}${first.instancePath}`.slice(0, 200);
  const property =
    first.property === undefined ? '' : `: ${JSON.stringify(first.property.slice(0, 60))}`;
  return `${where} ${first.message}${property}`;
}

function parseFinding(value: unknown): ValidationFinding | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const {
    instancePath,
    message,
    params,
  }: { instancePath?: unknown; message?: unknown; params?: unknown } = value;
  if (typeof instancePath !== 'string' || typeof message !== 'string') return undefined;
  const extra: unknown =
    typeof params === 'object' && params !== null
      ? Reflect.get(params, 'additionalProperty')
      : undefined;
  return { instancePath, message, property: typeof extra === 'string' ? extra : undefined };
}
