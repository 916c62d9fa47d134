import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { BuilderdError } from '../../core/errors.ts';
import type { Dialer } from '../../egress/dialer.ts';

const MAX_DOCUMENT_BYTES = 256 * 1024;
const MAX_KEYS = 100;
/** Keys are asked for again after this time, and sooner when a token names one that is not known. */
const FRESH_MS = 10 * 60_000;
/** But no sooner than this: unknown key ids are free to invent. */
const ASK_AGAIN_MS = 30_000;

export interface JwksOptions {
  readonly issuer: string;
  /** Default: what the issuer's `/.well-known/openid-configuration` names. */
  readonly jwksUrl?: string;
  readonly dialer: Dialer;
  readonly nowMs: () => number;
}

/**
 * The issuer's keys, fetched through the guarded dialer and kept. One fetch at a time; when the
 * issuer is away, the keys known so far stay in use.
 */
export class IssuerKeys {
  readonly #options: JwksOptions;
  #keys:
    | { readonly resolve: JWTVerifyGetKey; readonly ids: ReadonlySet<string>; readonly at: number }
    | undefined;
  #fetch: Promise<void> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(options: JwksOptions) {
    this.#options = options;
  }

  /** Throws `service.unavailable` when no keys are known and none can be had. */
  async resolver(keyId: string | undefined, signal: AbortSignal): Promise<JWTVerifyGetKey> {
    const now = this.#options.nowMs();
    const known = this.#keys;
    const isStale = known === undefined || now - known.at > FRESH_MS;
    const isMissing = keyId !== undefined && known?.ids.has(keyId) === false;
    if (
      (isStale || isMissing) &&
      now - this.#askedAt > (known === undefined ? 1000 : ASK_AGAIN_MS)
    ) {
      await this.#refresh(signal);
    } else if (this.#fetch !== undefined && known === undefined) {
      await this.#fetch;
    }
    const keys = this.#keys;
    if (keys === undefined) {
      throw new BuilderdError(
        'service.unavailable',
        'Cannot verify the token: the keys of its issuer are not known yet',
      );
    }
    return keys.resolve;
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    this.#fetch ??= this.#load(signal).finally(() => {
      this.#fetch = undefined;
    });
    try {
      await this.#fetch;
    } catch (reason) {
      if (this.#keys !== undefined) return;
      throw new BuilderdError(
        'service.unavailable',
        'Cannot verify the token: the keys of its issuer cannot be had',
        { cause: reason },
      );
    }
  }

  async #load(signal: AbortSignal): Promise<void> {
    this.#askedAt = this.#options.nowMs();
    const url = this.#options.jwksUrl ?? (await this.#discover(signal));
    const set = parseKeySet(await this.#get(new URL(url), signal));
    this.#keys = {
      resolve: createLocalJWKSet(set),
      ids: new Set(set.keys.flatMap(({ kid }) => (typeof kid === 'string' ? [kid] : []))),
      at: this.#options.nowMs(),
    };
  }

  async #discover(signal: AbortSignal): Promise<string> {
    const { issuer } = this.#options;
    const document = await this.#get(
      new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`),
      signal,
    );
    const named = memberOf(document, 'issuer');
    const url = memberOf(document, 'jwks_uri');
    if (named !== issuer || typeof url !== 'string' || !URL.canParse(url)) {
      throw unusable('its configuration names another issuer or no keys');
    }
    return url;
  }

  async #get(url: URL, signal: AbortSignal): Promise<unknown> {
    const answer = await this.#options.dialer.request(url, {
      method: 'GET',
      headers: { accept: 'application/json' },
      signal,
    });
    if (answer.status !== 200) {
      answer.discard();
      throw unusable(`it answered ${answer.status}`);
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer.body) {
      bytes += chunk.length;
      if (bytes > MAX_DOCUMENT_BYTES) throw unusable('its document is too large');
      chunks.push(chunk);
    }
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  }
}

function parseKeySet(document: unknown): JSONWebKeySet {
  const keys = memberOf(document, 'keys');
  if (!Array.isArray(keys) || keys.length > MAX_KEYS) throw unusable('its key set is not valid');
  // jose checks each key when it is used; here only that each is an object with a type.
  const usable = keys.filter(
    (key): key is JSONWebKeySet['keys'][number] => typeof memberOf(key, 'kty') === 'string',
  );
  return { keys: usable };
}

function memberOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
}

function unusable(fact: string): BuilderdError {
  return new BuilderdError('source.invalid', `Cannot use the token issuer: ${fact}`);
}
