import { BuilderdError } from '../../core/errors.ts';
import { canonicalHost } from '../../egress/host.ts';
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';

export type Credential =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  /** An OAuth2 refresh token that `docker login` was given. */
  | { readonly kind: 'identity-token'; readonly token: string };

/** What config.json says; hosts are canonical `host[:port]`, Docker Hub is `docker.io`. */
export interface DockerConfig {
  readonly auths: ReadonlyMap<string, Credential>;
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore?: string;
}

export const EMPTY_DOCKER_CONFIG: DockerConfig = { auths: new Map(), credHelpers: new Map() };

const HELPER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const HUB_KEYS = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/** Throws `config.invalid`; no message holds anything out of the file but host names. */
export function parseDockerConfig(bytes: Buffer): DockerConfig {
  const root = readRoot(bytes);
  const auths = new Map<string, Credential>();
  for (const [key, value] of members(root.get('auths'), 'auths')) {
    const host = credentialHost(key);
    const credential = host === undefined ? undefined : parseAuth(value, key);
    if (host !== undefined && credential !== undefined) auths.set(host, credential);
  }
  const credHelpers = new Map<string, string>();
  for (const [key, value] of members(root.get('credHelpers'), 'credHelpers')) {
    const host = credentialHost(key);
    if (host !== undefined) credHelpers.set(host, parseHelperName(value));
  }
  const store = root.get('credsStore');
  if (store === undefined || store === '') return { auths, credHelpers };
  return { auths, credHelpers, credsStore: parseHelperName(store) };
}

/** The host of a key such as `https://index.docker.io/v1/`; undefined for keys with other paths. */
export function credentialHost(key: string): string | undefined {
  const match = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/.exec(key);
  const authority = /^(\[[^\]]+\]|[^:]+)(?::(\d{1,5}))?$/.exec(match?.[1] ?? '');
  if (authority?.[1] === undefined) return undefined;
  try {
    const host = canonicalHost(authority[1]);
    const shown = host.includes(':') ? `[${host}]` : host;
    if (HUB_KEYS.has(shown)) return 'docker.io';
    return authority[2] === undefined ? shown : `${shown}:${Number(authority[2])}`;
  } catch (reason) {
    if (reason instanceof BuilderdError) return undefined;
    throw reason;
  }
}

function readRoot(bytes: Buffer): JsonObject {
  let root: JsonValue;
  try {
    root = parseStrictJson(bytes, 'the docker config.json');
  } catch (reason) {
    throw invalid('it is not strict JSON', reason);
  }
  if (!isJsonObject(root)) throw invalid('it is not an object');
  return root;
}

function members(value: JsonValue | undefined, name: string): JsonObject {
  if (value === undefined || value === null) return new Map();
  if (!isJsonObject(value)) throw invalid(`${name} is not an object`);
  return value;
}

function parseAuth(value: JsonValue, key: string): Credential | undefined {
  if (!isJsonObject(value)) throw invalid(`the entry of ${JSON.stringify(key)} is not an object`);
  const token = value.get('identitytoken');
  if (typeof token === 'string' && token !== '') return { kind: 'identity-token', token };
  const auth = value.get('auth');
  if (typeof auth === 'string' && auth !== '') {
    const text = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = text.indexOf(':');
    if (colon < 1) throw invalid(`auth of ${JSON.stringify(key)} is not base64 of user:password`);
    return { kind: 'password', user: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  const [user, password] = [value.get('username'), value.get('password')];
  if (typeof user !== 'string' || typeof password !== 'string') return undefined;
  return { kind: 'password', user, password };
}

function parseHelperName(value: JsonValue): string {
  if (typeof value === 'string' && HELPER.test(value)) return value;
  throw invalid('a credential helper has a name that is not a plain word');
}

function invalid(fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use the docker config.json: ${fact}`,
    cause === undefined ? {} : { cause },
  );
}
