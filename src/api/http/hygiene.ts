import type { FastifyReply, FastifyRequest } from 'fastify';
import { BuilderdError } from '../../core/errors.ts';
import { isAllowedHost, isCrossSite } from './host-policy.ts';
import { StatusFault } from './problem.ts';

export interface HygieneOptions {
  readonly urlBytes: number;
  readonly headerBytes: number;
  readonly allowedHosts: ReadonlySet<string>;
  readonly isDevelopment: boolean;
  readonly isTls: boolean;
}

/** Headers that every answer carries: nothing of ours is ever run, framed, sniffed or kept. */
export function setAnswerHeaders(
  request: FastifyRequest,
  reply: FastifyReply,
  { isDevelopment, isTls }: HygieneOptions,
): void {
  reply.header('x-request-id', request.id);
  reply.header('x-content-type-options', 'nosniff');
  reply.header('cache-control', 'no-store');
  reply.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'");
  reply.header('referrer-policy', 'no-referrer');
  reply.header('cross-origin-resource-policy', 'same-origin');
  if (isTls) reply.header('strict-transport-security', 'max-age=31536000');
  if (isDevelopment) reply.header('x-builderd-mode', 'development: no authentication');
}

/** What no request may be, whoever sends it. Throws. */
export function refuseUnclean(
  request: FastifyRequest,
  { urlBytes, headerBytes, allowedHosts, isDevelopment }: HygieneOptions,
  isHealth: boolean,
): void {
  const { headers, raw } = request;
  if ((raw.url ?? '').length > urlBytes) {
    throw new StatusFault(
      414,
      'api.too_large',
      `Cannot read the request: its URL is over ${urlBytes} bytes`,
    );
  }
  const repeated = repeatedHeader(raw.rawHeaders);
  if (repeated !== undefined) {
    throw new BuilderdError('api.invalid', `Cannot read the request: it has ${repeated} twice`);
  }
  // HTTP/1.1 has this from its parser; a limit of HTTP/2 binds only clients that have heard of it.
  if (raw.httpVersionMajor > 1 && sizeOf(raw.rawHeaders) > headerBytes) {
    throw new StatusFault(
      431,
      'api.too_large',
      `Cannot read the request: its headers are over ${headerBytes} bytes`,
    );
  }
  const host = headers.host ?? pseudoHeader(headers, ':authority');
  // Health checks name whatever the balancer was told, and learn one word.
  if (!isHealth && !isAllowedHost(host, allowedHosts)) {
    throw new StatusFault(
      421,
      'api.forbidden',
      'Cannot answer for this host name: it is not one of the allowed ones',
    );
  }
  const isSafe = request.method === 'GET' || request.method === 'HEAD';
  const fetchSite = textOf(headers['sec-fetch-site']);
  if (!isSafe && isCrossSite({ origin: headers.origin, fetchSite, host })) {
    throw new BuilderdError(
      'api.forbidden',
      'Cannot take the request: a page of another site sent it',
    );
  }
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    throw new StatusFault(
      415,
      'api.invalid',
      'Cannot read the request: its body must not be compressed',
    );
  }
  const wasForwarded = headers.forwarded !== undefined || headers['x-forwarded-for'] !== undefined;
  if (isDevelopment && wasForwarded) {
    throw new BuilderdError(
      'api.forbidden',
      'Cannot answer through a proxy: this service runs in development mode, without authentication',
    );
  }
}

function pseudoHeader(headers: FastifyRequest['headers'], name: string): string | undefined {
  return textOf(headers[name]);
}

function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function sizeOf(rawHeaders: readonly string[]): number {
  return rawHeaders.reduce((sum, text) => sum + text.length, 0);
}

/** A proxy before us may have read the other one. */
const ONCE = new Set([
  'host',
  'authorization',
  'content-type',
  'content-encoding',
  'x-tenant-id',
  'idempotency-key',
  'if-match',
  'if-range',
  'range',
  'last-event-id',
]);

function repeatedHeader(rawHeaders: readonly string[]): string | undefined {
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase() ?? '';
    if (!ONCE.has(name)) continue;
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return undefined;
}
