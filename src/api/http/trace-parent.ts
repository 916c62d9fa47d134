import type { FastifyRequest } from 'fastify';

/** `00-<trace>-<parent>-<flags>`, W3C Trace Context. */
const TRACE_PARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The request's trace, for what it starts; nothing when there is none or it is malformed. */
export function traceParentOf({ headers }: FastifyRequest): { traceParent?: string } {
  const value = headers['traceparent'];
  return typeof value === 'string' && TRACE_PARENT.test(value) ? { traceParent: value } : {};
}
