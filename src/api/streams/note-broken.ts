import type { FastifyRequest } from 'fastify';
import type { ErrorCode } from '../../core/error-catalogue.ts';
import { asBuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';

const EVERYDAY = new Set<ErrorCode>([
  'build.cancelled',
  'service.unavailable',
  'api.unauthenticated',
  'api.forbidden',
]);

/** Notes what broke an answer that had begun; clients that leave or stall, and tokens that end, are everyday. */
export function noteBroken(log: Log, request: FastifyRequest): (reason: unknown) => void {
  return (reason) => {
    const fault = asBuilderdError(reason, 'go on with the answer');
    const fields = { err: fault, requestId: request.id, code: fault.code };
    if (EVERYDAY.has(fault.code)) {
      log.debug(fields, 'An answer was cut off');
    } else {
      log.error(fields, 'An answer broke off');
    }
  };
}
