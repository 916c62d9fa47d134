import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { abortable } from '../../core/abortable.ts';
import { BuilderdError } from '../../core/errors.ts';
import { detachedSignal } from '../../core/scope.ts';
import type { Dialer } from '../../egress/dialer.ts';

const MAX_DOCUMENT_BYTES = 256 * 1024;
const MAX_KEYS = 100;
/** Keys are asked for again after this time, and sooner when a token names one that is not known. */
const FRESH_MS = 10 * 60_000;
/** But no sooner than this: unknown key ids are free to invent. */
const ASK_AGAIN_MS = 30_000;
/** Without any keys nobody gets in: asked for again soon, but not by every request. */
const ASK_FIRST_MS = 1000;
/** An issuer that is away for longer may have taken a key back long since. */
const KEPT_MS = 24 * 60 * 60_000;
const LOAD_LIMIT_MS = 10_000;

export interface JwksOptions {
  readonly issuer: string;
  /** Default: what the issuer's `/.well-known/openid-configuration` names. */
  readonly jwksUrl?: string;
  readonly dialer: Dialer;
  /** Monotonic. */
  readonly nowMs: () => number;
}

interface KnownKeys {
  readonly resolve: JWTVerifyGetKey;
  readonly ids: ReadonlySet<string>;
  readonly at: number;
}

/**
 * The issuer's keys, fetched through the guarded dialer and kept. One fetch at a time, for all who
 * wait: it does not end with the request that began it. When the issuer is away, the keys known so
 * far stay in use for a day.
 */
export class IssuerKeys {
  readonly #options: JwksOptions;
  #keys: KnownKeys | undefined;
  #loading: Promise<void> | undefined;
  /** Of the last load that failed. */
  #fault: unknown;
  /** When the last load ended, well or not. */
  #loadedAt = Number.NEGATIVE_INFINITY;

  constructor(options: JwksOptions) {
    this.#options = options;
  }

  /** Throws `service.unavailable` when no keys are known and none can be had. */
  async resolver(keyId: string | undefined, signal: AbortSignal): Promise<JWTVerifyGetKey> {
    const known = this.#known();
    const isFresh = known !== undefined && this.#options.nowMs() - known.at <= FRESH_MS;
    const isMissing = keyId !== undefined && known?.ids.has(keyId) === false;
    if (!isFresh || isMissing) await abortable(this.#refresh(known), signal);
    const keys = this.#known();
    if (keys !== undefined) return keys.resolve;
    throw new BuilderdError(
      'service.unavailable',
      'Cannot verify the token: the keys of its issuer cannot be had',
      this.#fault === undefined ? {} : { cause: this.#fault },
    );
  }

  #known(): KnownKeys | undefined {
    const isKept = this.#options.nowMs() - (this.#keys?.at ?? 0) <= KEPT_MS;
    return isKept ? this.#keys : undefined;
  }

  /** Joins the load that runs, or begins one if the last is long enough ago. Never rejects. */
  async #refresh(known: KnownKeys | undefined): Promise<void> {
    const pauseMs = known === undefined ? ASK_FIRST_MS : ASK_AGAIN_MS;
    const isDue = this.#options.nowMs() - this.#loadedAt > pauseMs;
    if (this.#loading === undefined && isDue) {
      this.#loading = this.#load().finally(() => {
        this.#loading = undefined;
      });
    }
    await this.#loading;
  }

  async #load(): Promise<void> {
    const signal = detachedSignal(LOAD_LIMIT_MS);
    try {
      const url = this.#options.jwksUrl ?? (await this.#discover(signal));
      const set = parseKeySet(await this.#get(new URL(url), signal));
      this.#keys = {
        resolve: createLocalJWKSet(set),
        ids: new Set(set.keys.flatMap(({ kid }) => (typeof kid === 'string' ? [kid] : []))),
        at: this.#options.nowMs(),
      };
      this.#fault = undefined;
    } catch (reason) {
      this.#fault = reason;
    } finally {
      this.#loadedAt = this.#options.nowMs();
    }
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
