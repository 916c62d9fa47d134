import { BuilderdError } from '../../core/errors.ts';
import type { Dialer, EgressResponse, TlsProfile } from '../../egress/dialer.ts';
import { hostPortOf, isSameOrigin, parseHttpUrl } from '../../egress/host.ts';
import { readBounded } from './bounded-body.ts';
import type { Challenge } from './challenge.ts';
import type { CredentialSource } from './credentials.ts';
import type { Credential } from './docker-config.ts';
import type { HostsConfig, RegistryEndpoint } from './hosts-config.ts';
import { isJsonObject, parseStrictJson } from '../../core/strict-json.ts';
import type { Timing } from './timing.ts';

export interface AuthenticatorDeps {
  readonly dialer: Dialer;
  readonly hosts: HostsConfig;
  readonly credentials: CredentialSource;
  readonly timing: Timing;
  /** `host:port` of token servers, beside the registry's own, that may see its credentials. */
  readonly trustedRealms: ReadonlySet<string>;
}

interface Call {
  readonly signal: AbortSignal;
}

/** Token servers of registries whose own site is not the registry's host. */
const KNOWN_REALMS = new Map([
  ['docker.io', 'auth.docker.io:443'],
  ['registry.gitlab.com', 'gitlab.com:443'],
]);

const MAX_TOKEN_ANSWER = 64 * 1024;
const MAX_TOKEN = 16 * 1024;
const DEFAULT_LIFETIME_S = 60;
const MAX_LIFETIME_S = 3600;
const EXPIRY_MARGIN_MS = 5_000;
const CLIENT_ID = 'builderd';

/**
 * Answers challenges of registries for one acquisition: nothing it learns outlives it, so that
 * one tenant's token is never another's. Tokens are cached by registry origin and scope.
 */
export class Authenticator {
  readonly #deps: AuthenticatorDeps;
  readonly #headers = new Map<string, { readonly value: string; readonly expiresMs: number }>();
  readonly #pending = new Map<string, Promise<string | undefined>>();

  constructor(deps: AuthenticatorDeps) {
    this.#deps = deps;
  }

  /** The Authorization header known for this endpoint and scope, if any. */
  known(endpoint: RegistryEndpoint, scope: string): string | undefined {
    const key = cacheKey(endpoint, scope);
    const found = this.#headers.get(key);
    if (found === undefined || found.expiresMs > this.#deps.timing.now()) return found?.value;
    this.#headers.delete(key);
    return undefined;
  }

  /**
   * A header that answers the challenges, or undefined when we have nothing that would help.
   * `rejected` is the header that earned them. Single-flight by endpoint and scope.
   */
  async answer(
    endpoint: RegistryEndpoint,
    scope: string,
    challenges: readonly Challenge[],
    rejected: string | undefined,
    call: Call,
  ): Promise<string | undefined> {
    const key = cacheKey(endpoint, scope);
    const known = this.known(endpoint, scope);
    if (known !== undefined && known !== rejected) return known;
    const running = this.#pending.get(key);
    if (running !== undefined) return running;
    const work = this.#obtain(endpoint, scope, challenges, call).finally(() =>
      this.#pending.delete(key),
    );
    this.#pending.set(key, work);
    return work;
  }

  async #obtain(
    endpoint: RegistryEndpoint,
    scope: string,
    challenges: readonly Challenge[],
    call: Call,
  ): Promise<string | undefined> {
    const credential = await this.#deps.credentials.credentialFor(endpoint.credentialHost, call);
    const bearer = challenges.find((each) => each.scheme === 'bearer');
    if (bearer !== undefined) {
      const token = await this.#token(endpoint, scope, bearer, credential, call);
      return this.#remember(endpoint, scope, `Bearer ${token.value}`, token.expiresMs);
    }
    const basic = challenges.some((each) => each.scheme === 'basic');
    if (!basic || credential?.kind !== 'password') return undefined;
    return this.#remember(endpoint, scope, basicHeader(credential), Number.POSITIVE_INFINITY);
  }

  #remember(endpoint: RegistryEndpoint, scope: string, value: string, expiresMs: number): string {
    this.#headers.set(cacheKey(endpoint, scope), { value, expiresMs });
    return value;
  }

  async #token(
    endpoint: RegistryEndpoint,
    scope: string,
    bearer: Challenge,
    credential: Credential | undefined,
    call: Call,
  ): Promise<{ value: string; expiresMs: number }> {
    const realm = this.#checkedRealm(endpoint, bearer.params.get('realm'));
    const service = bearer.params.get('service');
    const usable = this.#mayTrust(endpoint, realm) ? credential : undefined;
    const askedMs = this.#deps.timing.now();
    const response =
      usable?.kind === 'identity-token'
        ? await this.#postToken(endpoint, realm, { service, scope, token: usable.token }, call)
        : await this.#getToken(endpoint, realm, { service, scope, credential: usable }, call);
    const doing = `get a token for ${endpoint.credentialHost} from ${hostPortOf(realm)}`;
    if (response.status !== 200) throw tokenRefused(response, doing, credential !== usable);
    const answer = parseToken(await readBounded(response, MAX_TOKEN_ANSWER, doing), doing);
    const lifetimeMs = answer.lifetimeS * 1000;
    return {
      value: answer.token,
      expiresMs: askedMs + Math.max(lifetimeMs - EXPIRY_MARGIN_MS, lifetimeMs / 2),
    };
  }

  /** The realm comes from the peer: https, unless the operator's registry itself is plain http. */
  #checkedRealm(endpoint: RegistryEndpoint, text: string | undefined): URL {
    if (text === undefined) {
      throw new BuilderdError(
        'source.auth_failed',
        `Cannot log in to ${endpoint.credentialHost}: it names no token server`,
      );
    }
    const realm = parseHttpUrl(text);
    if (realm.protocol === 'https:' || endpoint.base.protocol === 'http:') return realm;
    throw new BuilderdError(
      'source.auth_failed',
      `Cannot log in to ${endpoint.credentialHost}: its token server is not https`,
    );
  }

  /** Credentials go to the registry's own host and to realms known to belong to it: exactly those. */
  #mayTrust(endpoint: RegistryEndpoint, realm: URL): boolean {
    const at = hostPortOf(realm);
    if (isSameOrigin(realm, endpoint.base)) return true;
    if (this.#deps.trustedRealms.has(at)) return true;
    return realm.protocol === 'https:' && KNOWN_REALMS.get(endpoint.credentialHost) === at;
  }

  async #getToken(
    endpoint: RegistryEndpoint,
    realm: URL,
    ask: { service: string | undefined; scope: string; credential: Credential | undefined },
    call: Call,
  ): Promise<EgressResponse> {
    const url = new URL(realm);
    if (ask.service !== undefined) url.searchParams.set('service', ask.service);
    if (ask.scope !== '') url.searchParams.set('scope', ask.scope);
    const headers: Record<string, string> = {};
    if (ask.credential?.kind === 'password') {
      url.searchParams.set('account', ask.credential.user);
      headers['authorization'] = basicHeader(ask.credential);
    }
    return this.#deps.dialer.request(url, {
      method: 'GET',
      headers,
      ...(await this.#tlsFor(endpoint, url, call)),
      signal: call.signal,
    });
  }

  async #postToken(
    endpoint: RegistryEndpoint,
    realm: URL,
    ask: { service: string | undefined; scope: string; token: string },
    call: Call,
  ): Promise<EgressResponse> {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: CLIENT_ID,
      access_type: 'offline',
      refresh_token: ask.token,
      scope: ask.scope,
      ...(ask.service === undefined ? {} : { service: ask.service }),
    });
    return this.#deps.dialer.request(realm, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: form.toString(),
      ...(await this.#tlsFor(endpoint, realm, call)),
      signal: call.signal,
    });
  }

  /** The operator's TLS settings for the token server's own host, never those of another host. */
  async #tlsFor(endpoint: RegistryEndpoint, realm: URL, call: Call): Promise<{ tls?: TlsProfile }> {
    if (realm.protocol !== 'https:') return {};
    if (isSameOrigin(realm, endpoint.base))
      return endpoint.tls === undefined ? {} : { tls: endpoint.tls };
    const own = await this.#deps.hosts.endpointsFor(realm.host, call);
    const tls = own.find((each) => isSameOrigin(each.base, realm))?.tls;
    return tls === undefined ? {} : { tls };
  }
}

function cacheKey(endpoint: RegistryEndpoint, scope: string): string {
  return `${endpoint.base.origin} ${scope}`;
}

function basicHeader(credential: { readonly user: string; readonly password: string }): string {
  const pair = Buffer.from(`${credential.user}:${credential.password}`, 'utf8');
  return `Basic ${pair.toString('base64')}`;
}

function tokenRefused(response: EgressResponse, doing: string, withheld: boolean): BuilderdError {
  response.discard();
  const why = withheld
    ? '; credentials were not sent, because that host is not a trusted realm of the registry'
    : '';
  const fact = `it answered ${response.status}${why}`;
  if (response.status >= 500 || response.status === 429) {
    return new BuilderdError('source.unreachable', `Cannot ${doing}: ${fact}`, {
      details: { transient: true },
    });
  }
  return new BuilderdError('source.auth_failed', `Cannot ${doing}: ${fact}`);
}

function parseToken(bytes: Buffer, doing: string): { token: string; lifetimeS: number } {
  const answer = parseStrictJson(bytes, 'the answer of the token server');
  const token = isJsonObject(answer)
    ? (answer.get('token') ?? answer.get('access_token'))
    : undefined;
  // Printable ASCII without blanks: nothing that could end the header.
  if (typeof token !== 'string' || token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) {
    throw new BuilderdError(
      'source.auth_failed',
      `Cannot ${doing}: its answer holds no usable token`,
    );
  }
  const lifetime = isJsonObject(answer) ? answer.get('expires_in') : undefined;
  const lifetimeS =
    typeof lifetime === 'number' && lifetime > 0
      ? Math.min(lifetime, MAX_LIFETIME_S)
      : DEFAULT_LIFETIME_S;
  return { token, lifetimeS };
}
