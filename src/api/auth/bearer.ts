import type { TenantService } from '../../builds/service/tenant-service.ts';
import { abortable } from '../../core/abortable.ts';
import { BuilderdError } from '../../core/errors.ts';
import { detachedSignal } from '../../core/scope.ts';
import type { AddressLimits } from './address-limits.ts';
import type { Identity, TokenCache } from './token-cache.ts';

const MAX_TOKEN_CHARS = 8192;
/** Longer than a request may take: each of those that wait ends by its own time. */
const VERIFY_LIMIT_MS = 60_000;
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** Verifies a JSON Web Token; undefined when it is not valid. Throws when its keys cannot be had. */
export type VerifyJwt = (
  token: string,
  call: { readonly signal: AbortSignal },
) => Promise<Identity | undefined>;

export interface BearerOptions {
  readonly tenants: Pick<TenantService, 'authenticate'>;
  readonly cache: TokenCache;
  readonly addresses: AddressLimits;
  readonly verifyJwt?: VerifyJwt;
}

/**
 * Turns an Authorization header into an identity. Throws `api.unauthenticated`, and `api.too_many`
 * for an address that guesses; a token that was verified a moment ago is let in even from there,
 * so that a neighbour behind the same address cannot shut others out.
 */
export async function identify(
  {
    header,
    address,
    signal,
  }: {
    readonly header: string | undefined;
    readonly address: string;
    readonly signal: AbortSignal;
  },
  { tenants, cache, addresses, verifyJwt }: BearerOptions,
): Promise<Identity> {
  const token = parseBearer(header);
  const known = cache.find(token);
  if (known !== undefined) return known;
  // All requests with this token share one look at it: it must not end with the first of them.
  const call = { signal: detachedSignal(VERIFY_LIMIT_MS) };
  const check = (): Promise<Identity | undefined> =>
    checkToken(token, { tenants, verifyJwt }, call);
  // What was right lately is no guess: wrong tokens of neighbours must not keep it out.
  const isGuess = !cache.wasRight(token);
  const identity = await abortable(
    cache.verify(token, () => (isGuess ? addresses.guess(address, check, call) : check())),
    signal,
  );
  if (identity !== undefined) return identity;
  throw new BuilderdError(
    'api.unauthenticated',
    'Cannot answer the request: its token is unknown, revoked or expired',
  );
}

function checkToken(
  token: string,
  {
    tenants,
    verifyJwt,
  }: Pick<BearerOptions, 'tenants'> & { readonly verifyJwt: VerifyJwt | undefined },
  call: { readonly signal: AbortSignal },
): Promise<Identity | undefined> {
  return verifyJwt !== undefined && JWT.test(token)
    ? verifyJwt(token, call)
    : tenants.authenticate(token, call);
}

/** The same for a stream that goes on: what its token is now, undefined when nothing any more. */
export async function identifyAgain(
  header: string | undefined,
  { tenants, cache, verifyJwt }: Omit<BearerOptions, 'addresses'>,
): Promise<Identity | undefined> {
  const token = parseBearer(header);
  const call = { signal: detachedSignal(VERIFY_LIMIT_MS) };
  return (
    cache.find(token) ??
    (await cache.verify(token, () => checkToken(token, { tenants, verifyJwt }, call)))
  );
}

function parseBearer(header: string | undefined): string {
  if (header === undefined) {
    throw new BuilderdError('api.unauthenticated', 'Cannot answer the request: it has no token');
  }
  const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(header)?.[1];
  if (token === undefined || token.length > MAX_TOKEN_CHARS) {
    throw new BuilderdError(
      'api.unauthenticated',
      'Cannot answer the request: want one Authorization header of the form Bearer <token>',
    );
  }
  return token;
}
