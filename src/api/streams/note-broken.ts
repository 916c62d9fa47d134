import type { FastifyRequest } from 'fastify';
import { asBuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';

/** Notes what broke an answer that had begun; clients that leave or stall are everyday. */
export function noteBroken(log: Log, request: FastifyRequest): (reason: unknown) => void {
  return (reason) => {
    const fault = asBuilderdError(reason, 'go on with the answer');
    const fields = { err: fault, requestId: request.id, code: fault.code };
    if (fault.code === 'build.cancelled' || fault.code === 'service.unavailable') {
      log.debug(fields, 'An answer was cut off');
    } else {
      log.error(fields, 'An answer broke off');
    }
  };
}
