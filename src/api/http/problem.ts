import type { ErrorCode, Fault } from '../../core/error-catalogue.ts';
import { BuilderdError, type ErrorDetails } from '../../core/errors.ts';

/** A fault that HTTP answers with another status than its code's own. */
export class StatusFault extends BuilderdError {
  readonly status: number;

  constructor(
    status: number,
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: ErrorDetails } = {},
  ) {
    super(code, message, options);
    this.status = status;
  }
}

/** RFC 9457, with our fields beside the standard ones. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly hint: string;
  readonly fault: Fault;
  readonly requestId: string;
  readonly details?: ErrorDetails;
}

/** The reason phrases of RFC 9110 for the statuses that we answer. */
const TITLES = new Map([
  [400, 'Bad Request'],
  [401, 'Unauthorized'],
  [403, 'Forbidden'],
  [404, 'Not Found'],
  [406, 'Not Acceptable'],
  [408, 'Request Timeout'],
  [409, 'Conflict'],
  [410, 'Gone'],
  [412, 'Precondition Failed'],
  [413, 'Content Too Large'],
  [414, 'URI Too Long'],
  [415, 'Unsupported Media Type'],
  [416, 'Range Not Satisfiable'],
  [421, 'Misdirected Request'],
  [422, 'Unprocessable Content'],
  [429, 'Too Many Requests'],
  [431, 'Request Header Fields Too Large'],
  [500, 'Internal Server Error'],
  [501, 'Not Implemented'],
  [502, 'Bad Gateway'],
  [503, 'Service Unavailable'],
  [507, 'Insufficient Storage'],
]);

/** Platform faults whose words are ours and name no path, address or statement. */
const SPOKEN = new Set<ErrorCode>(['service.unavailable', 'artifact.corrupt', 'artifact.missing']);

/**
 * What a caller is told. Faults of the platform are told by code and request id only: their words
 * may hold host paths, SQL or addresses, and belong in the log.
 */
export function problemOf(fault: BuilderdError, requestId: string): Problem {
  const { entry, code } = fault;
  const status = fault instanceof StatusFault ? fault.status : entry.status;
  const isSpoken = entry.fault !== 'platform' || SPOKEN.has(code);
  const hasDetails = isSpoken && Object.keys(fault.details).length > 0;
  return {
    type: `/docs#${code}`,
    title: TITLES.get(status) ?? 'Error',
    status,
    detail: isSpoken
      ? fault.message
      : `Cannot answer the request: the service failed; its log has the cause under ${requestId}`,
    code,
    hint: entry.hint,
    fault: entry.fault,
    requestId,
    ...(hasDetails ? { details: fault.details } : {}),
  };
}

/** Seconds for Retry-After, or undefined where waiting does not help. */
export function retryAfterOf(fault: BuilderdError, status: number): number | undefined {
  const told = fault.details['retryAfterSeconds'];
  if (typeof told === 'number' && Number.isFinite(told)) return Math.max(1, Math.ceil(told));
  if (status === 429) return 5;
  return status === 503 ? 2 : undefined;
}
