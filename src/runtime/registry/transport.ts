import { BuilderdError } from '../../core/errors.ts';
import type { Dialer, EgressResponse } from '../../egress/dialer.ts';
import { isTransient, unreachable } from '../../egress/faults.ts';
import { hostPortOf, isSameOrigin, parseHttpUrl } from '../../egress/host.ts';
import type { Authenticator } from './authenticator.ts';
import { readBounded } from './bounded-body.ts';
import { parseChallenges } from './challenge.ts';
import type { RegistryEndpoint } from './hosts-config.ts';
import { parseRetryAfter } from './retry-after.ts';
import type { RetryBudget } from './retry-budget.ts';
import {
  isJsonArray,
  isJsonObject,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';
import type { Timing } from './timing.ts';

export interface TransportDeps {
  readonly dialer: Dialer;
  readonly authenticator: Authenticator;
  readonly budget: RetryBudget;
  readonly timing: Timing;
}

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD';
  /** Appended to the endpoint's base; made of checked parts only. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly scope: string;
  /** How often the endpoint is asked at most. */
  readonly attempts: number;
  readonly signal: AbortSignal;
}

const MAX_REDIRECTS = 5;
const MAX_ERROR_BODY = 64 * 1024;
const RETRIED = new Set([408, 429, 500, 502, 503, 504]);
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * One request to a registry with everything around it: login, redirects, retries. The answer may
 * have any status that is neither a redirect nor retried. Throws `source.unreachable`,
 * `source.auth_failed`, `source.denied_address`, `source.invalid`, `build.cancelled`.
 */
export async function sendToRegistry(
  deps: TransportDeps,
  endpoint: RegistryEndpoint,
  request: RegistryRequest,
): Promise<EgressResponse> {
  for (let attempt = 1; ; attempt += 1) {
    let fault: BuilderdError;
    let asked: number | undefined;
    try {
      const response = await sendWithLogin(deps, endpoint, request);
      if (!RETRIED.has(response.status)) return response;
      response.discard();
      asked = parseRetryAfter(response.header('retry-after'), deps.timing.now());
      fault = unreachable(
        `reach ${hostPortOf(endpoint.base)}`,
        `it answered ${response.status}`,
        undefined,
        true,
      );
    } catch (reason) {
      if (!(reason instanceof BuilderdError) || !isTransient(reason)) throw reason;
      fault = reason;
    }
    if (attempt >= request.attempts) throw fault;
    await deps.budget.pause(attempt, asked, fault, { signal: request.signal });
  }
}

async function sendWithLogin(
  deps: TransportDeps,
  endpoint: RegistryEndpoint,
  request: RegistryRequest,
): Promise<EgressResponse> {
  const { scope } = request;
  let authorization = deps.authenticator.known(endpoint, scope);
  // At most: the known header was rejected, and a fresh one answers the challenge.
  for (let round = 1; ; round += 1) {
    const { response, atOrigin } = await followRedirects(deps, endpoint, request, authorization);
    if (response.status !== 401 || !atOrigin) return response;
    const challenges = parseChallenges(response.header('www-authenticate') ?? '');
    response.discard();
    const fresh =
      round > 2
        ? undefined
        : await deps.authenticator.answer(endpoint, scope, challenges, authorization, request);
    if (fresh === undefined || fresh === authorization) {
      throw refused(endpoint, authorization !== undefined);
    }
    authorization = fresh;
  }
}

/** Credentials, operator headers and client certificates go to the endpoint's origin only. */
async function followRedirects(
  deps: TransportDeps,
  endpoint: RegistryEndpoint,
  request: RegistryRequest,
  authorization: string | undefined,
): Promise<{ response: EgressResponse; atOrigin: boolean }> {
  let url = new URL(`${endpoint.base.href.replace(/\/$/, '')}${request.path}`);
  if (endpoint.mirrorOf !== undefined) url.searchParams.set('ns', endpoint.mirrorOf);
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const atOrigin = isSameOrigin(url, endpoint.base);
    const response = await deps.dialer.request(url, {
      method: request.method,
      headers: {
        ...(atOrigin ? Object.fromEntries(endpoint.headers) : {}),
        ...request.headers,
        ...(atOrigin && authorization !== undefined ? { authorization } : {}),
      },
      ...(atOrigin && endpoint.tls !== undefined ? { tls: endpoint.tls } : {}),
      signal: request.signal,
    });
    if (!REDIRECTS.has(response.status)) return { response, atOrigin };
    const location = response.header('location');
    response.discard();
    url = nextHop(url, location, endpoint);
  }
  throw new BuilderdError(
    'source.invalid',
    `Cannot reach ${hostPortOf(endpoint.base)}: it redirects more than ${MAX_REDIRECTS} times`,
  );
}

function nextHop(from: URL, location: string | undefined, endpoint: RegistryEndpoint): URL {
  if (location === undefined) {
    throw new BuilderdError(
      'source.invalid',
      `Cannot follow ${hostPortOf(from)}: its redirect has no Location`,
    );
  }
  const next = parseHttpUrl(location, from);
  // https never becomes http; a registry that the operator runs in plain http may stay there.
  if (
    next.protocol === 'http:' &&
    (from.protocol === 'https:' || endpoint.base.protocol === 'https:')
  ) {
    throw new BuilderdError(
      'source.invalid',
      `Cannot follow ${hostPortOf(from)}: it redirects from https to http`,
    );
  }
  return next;
}

function refused(endpoint: RegistryEndpoint, hadCredentials: boolean): BuilderdError {
  const fact = hadCredentials
    ? 'it refuses the credentials or the repository'
    : 'it wants a login, and no credentials for it are known';
  return new BuilderdError(
    'source.auth_failed',
    `Cannot read from ${endpoint.credentialHost}: ${fact}`,
  );
}

/** The error for an answer that is not a success. Bodies are never shown, only the registry's code. */
export async function errorOf(response: EgressResponse, doing: string): Promise<BuilderdError> {
  const code = await errorCodeOf(response);
  const fact = `the registry answered ${response.status}${code === undefined ? '' : ` ${code}`}`;
  if (response.status === 401 || response.status === 403) {
    return new BuilderdError('source.auth_failed', `Cannot ${doing}: ${fact}`);
  }
  if (response.status === 404)
    return new BuilderdError('source.not_found', `Cannot ${doing}: ${fact}`);
  if (response.status >= 500) return unreachable(doing, fact, undefined, true);
  return new BuilderdError('source.invalid', `Cannot ${doing}: ${fact}`);
}

async function errorCodeOf(response: EgressResponse): Promise<string | undefined> {
  let body: JsonValue;
  try {
    const bytes = await readBounded(response, MAX_ERROR_BODY, 'read the error');
    body = parseStrictJson(bytes, 'the error');
  } catch (reason) {
    // An unreadable explanation leaves the status to speak, unless the caller gave up.
    if (reason instanceof BuilderdError && reason.code !== 'build.cancelled') return undefined;
    throw reason;
  }
  const errors = isJsonObject(body) ? body.get('errors') : undefined;
  const first = isJsonArray(errors) ? errors[0] : undefined;
  const code = isJsonObject(first) ? first.get('code') : undefined;
  return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? code : undefined;
}
