import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { parseTenantName, type TenantName } from '../../core/ids.ts';
import { isPlainText } from '../../core/plain-text.ts';
import type { Dialer } from '../../egress/dialer.ts';
import type { VerifyJwt } from './bearer.ts';
import { IssuerKeys } from './jwks.ts';
import type { Identity } from './token-cache.ts';

/** One trusted issuer, as the operator configured it. */
export interface JwtIssuer {
  readonly issuer: string;
  readonly audience: string;
  readonly jwksUrl?: string;
  /** Claim with one tenant name or a list; dots step into objects. Default `tenant`. */
  readonly tenantClaim?: string;
  /** Claim with one role or a list. Default `role`. */
  readonly roleClaim?: string;
  /** Values of the role claim that make an operator. Default: none does. */
  readonly operatorRoles?: readonly string[];
  readonly readerRoles?: readonly string[];
}

const ALGORITHMS = [
  'EdDSA',
  'Ed25519',
  'ES256',
  'ES384',
  'ES512',
  'PS256',
  'PS384',
  'PS512',
  'RS256',
  'RS384',
  'RS512',
];
const CLOCK_TOLERANCE_S = 30;
const MAX_TENANTS = 1000;
/** What a date can be. */
const LATEST_MS = 8.64e15;
const MAX_SUBJECT = 256;
const MAX_ISSUER = 256;

/**
 * Verifies tokens of the configured issuers: signature, issuer, audience, times. Never `none` or
 * HMAC. Throws `config.invalid` for an issuer whose name cannot be part of an actor's.
 */
export function createJwtVerifier(
  issuers: readonly JwtIssuer[],
  { dialer, nowMs }: { readonly dialer: Dialer; readonly nowMs: () => number },
): VerifyJwt {
  for (const { issuer } of issuers) {
    if (issuer.length <= MAX_ISSUER && isPlainText(issuer)) continue;
    throw new BuilderdError(
      'config.invalid',
      `Cannot trust the token issuer ${JSON.stringify(issuer.slice(0, 60))}: want a URL of at most ${MAX_ISSUER} characters`,
    );
  }
  const known = new Map(
    issuers.map((settings) => [
      settings.issuer,
      {
        settings,
        keys: new IssuerKeys({
          issuer: settings.issuer,
          ...(settings.jwksUrl === undefined ? {} : { jwksUrl: settings.jwksUrl }),
          dialer,
          nowMs,
        }),
      },
    ]),
  );
  return async (token, { signal }) => {
    const claimed = peekAt(token);
    const issuer = claimed === undefined ? undefined : known.get(claimed.issuer);
    if (claimed === undefined || issuer === undefined) return undefined;
    const resolve = await issuer.keys.resolver(claimed.keyId, signal);
    try {
      const { payload } = await jwtVerify(token, resolve, {
        issuer: issuer.settings.issuer,
        audience: issuer.settings.audience,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_S,
        requiredClaims: ['exp', 'sub'],
      });
      return identityOf(payload, issuer.settings);
    } catch (reason) {
      if (reason instanceof errors.JOSEError) return undefined;
      throw reason;
    }
  };
}

/** What an unverified token says of itself: only used to choose the issuer and the key. */
function peekAt(token: string): { issuer: string; keyId: string | undefined } | undefined {
  try {
    const { iss } = decodeJwt(token);
    const { kid } = decodeProtectedHeader(token);
    return iss === undefined ? undefined : { issuer: iss, keyId: kid };
  } catch (reason) {
    if (reason instanceof errors.JOSEError || reason instanceof TypeError) return undefined;
    throw reason;
  }
}

/** A token without a usable subject or tenant is nobody; operators need no tenant. */
export function identityOf(payload: JWTPayload, settings: JwtIssuer): Identity | undefined {
  const roles = new Set(textsOf(payload, settings.roleClaim ?? 'role'));
  const { sub = '' } = payload;
  // It is part of audit entries and log lines: whoever chooses it must not be able to forge one.
  if (sub === '' || sub.length > MAX_SUBJECT || !isPlainText(sub)) return undefined;
  const actor = `jwt:${settings.issuer}/${sub}`;
  const { exp } = payload;
  const end = exp === undefined ? {} : { expiresAt: Math.min(Math.floor(exp * 1000), LATEST_MS) };
  if (settings.operatorRoles?.some((role) => roles.has(role))) {
    return { actor, role: 'operator', tenants: 'all', ...end };
  }
  const tenants = new Set(textsOf(payload, settings.tenantClaim ?? 'tenant').flatMap(tenantNameOf));
  if (tenants.size === 0) return undefined;
  const isReader = settings.readerRoles?.some((role) => roles.has(role)) ?? false;
  return { actor, role: isReader ? 'reader' : 'tenant', tenants, ...end };
}

function tenantNameOf(raw: string): TenantName[] {
  try {
    return [parseTenantName(raw)];
  } catch (reason) {
    if (isBuilderdError(reason, 'api.invalid')) return [];
    throw reason;
  }
}

/** First the claim of exactly that name (URLs hold dots), then the path. */
function textsOf(payload: JWTPayload, claim: string): string[] {
  const direct: unknown = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
  const value = direct ?? claim.split('.').reduce<unknown>(memberOf, payload);
  if (typeof value === 'string') return [value];
  if (!Array.isArray(value)) return [];
  return value.slice(0, MAX_TENANTS).filter((each): each is string => typeof each === 'string');
}

function memberOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}
