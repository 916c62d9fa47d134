import { BuilderdError } from '../core/errors.ts';

export const SSL_MODES = ['disable', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof SSL_MODES)[number];

/** A PostgreSQL URL, taken apart. The password leaves it only towards the server. */
export interface PostgresTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly sslMode: SslMode;
  readonly sslRootCert?: string;
  readonly sslCert?: string;
  readonly sslKey?: string;
  readonly applicationName: string;
  readonly connectTimeoutMs: number;
  readonly poolMax: number;
  readonly poolMin: number;
  readonly maxIdleMs: number;
  /** 0 for no limit. */
  readonly maxLifetimeMs: number;
}

const DEFAULT_POOL_MAX = 10;
const PARAMETERS = [
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'host',
  'port',
  'application_name',
  'connect_timeout',
  'pool_max_conns',
  'pool_min_conns',
  'pool_max_conn_idle_time',
  'pool_max_conn_lifetime',
] as const;
type Parameter = (typeof PARAMETERS)[number];

/**
 * Takes the names of libpq and of Go's pgxpool, which the first builderd used. A parameter without
 * effect here is refused, not ignored. Throws `config.invalid`; no message holds the URL.
 */
export function parsePostgresUrl(text: string): PostgresTarget {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:')) {
    throw bad(
      'want postgres://user:password@host:5432/database (a `%`, `/`, `@` or `#` in the password is written %25, %2F, %40 or %23)',
    );
  }
  const given = parameters(url);
  const host = given.get('host') ?? decoded(url.hostname, 'host').replace(/^\[(.*)\]$/, '$1');
  if (host.includes(',')) throw bad('it names several hosts; want one');
  const user = decoded(url.username, 'user');
  const database = decoded(url.pathname.slice(1), 'database') || user;
  if (user === '') throw bad('it names no user');
  const sslRootCert = given.get('sslrootcert');
  const sslCert = given.get('sslcert');
  const sslKey = given.get('sslkey');
  const sslMode = sslModeOf(given);
  if ((sslCert === undefined) !== (sslKey === undefined)) {
    throw bad('sslcert and sslkey go together');
  }
  return {
    host: host === '' ? 'localhost' : host,
    port: whole(given.get('port') ?? url.port, 'port', { fallback: 5432, min: 1, max: 65_535 }),
    user,
    password: decoded(url.password, 'password'),
    database,
    sslMode,
    ...(sslRootCert === undefined ? {} : { sslRootCert }),
    ...(sslCert === undefined ? {} : { sslCert }),
    ...(sslKey === undefined ? {} : { sslKey }),
    applicationName: given.get('application_name') ?? 'builderd',
    connectTimeoutMs:
      whole(given.get('connect_timeout'), 'connect_timeout', { fallback: 10, min: 1, max: 300 }) *
      1000,
    poolMax: whole(given.get('pool_max_conns'), 'pool_max_conns', {
      fallback: DEFAULT_POOL_MAX,
      min: 1,
      max: 1000,
    }),
    poolMin: whole(given.get('pool_min_conns'), 'pool_min_conns', {
      fallback: 0,
      min: 0,
      max: 1000,
    }),
    maxIdleMs: duration(given.get('pool_max_conn_idle_time'), 'pool_max_conn_idle_time', 60_000),
    maxLifetimeMs: duration(given.get('pool_max_conn_lifetime'), 'pool_max_conn_lifetime', 0),
  };
}

export function isLocal({ host }: PostgresTarget): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function parameters(url: URL): ReadonlyMap<Parameter, string> {
  const given = new Map<Parameter, string>();
  for (const [name, value] of url.searchParams) {
    const known = PARAMETERS.find((parameter) => parameter === name);
    if (known === undefined) {
      throw bad(
        `it has the parameter ${JSON.stringify(name.slice(0, 40))}; known are ${PARAMETERS.join(', ')}`,
      );
    }
    if (given.has(known)) throw bad(`it has ${known} twice`);
    if (value.includes('\0')) throw bad(`${known} holds a NUL`);
    given.set(known, value);
  }
  return given;
}

function sslModeOf(given: ReadonlyMap<Parameter, string>): SslMode {
  const text = given.get('sslmode') ?? 'disable';
  const mode = SSL_MODES.find((candidate) => candidate === text);
  if (mode === undefined) {
    throw bad(
      `sslmode is ${JSON.stringify(text.slice(0, 20))}; want ${SSL_MODES.join(', ')} (allow and prefer protect against nobody)`,
    );
  }
  const root = given.get('sslrootcert');
  if (mode === 'verify-ca' && (root === undefined || root === 'system')) {
    throw bad(
      'sslmode=verify-ca needs sslrootcert with your own authority: any public one would pass; or use verify-full',
    );
  }
  return mode;
}

function whole(
  text: string | undefined,
  name: string,
  { fallback, min, max }: { readonly fallback: number; readonly min: number; readonly max: number },
): number {
  if (text === undefined || text === '') return fallback;
  const number = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= min && number <= max) return number;
  throw bad(`${name} is ${JSON.stringify(text.slice(0, 20))}; want ${min} … ${max}`);
}

const UNIT_MS = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

function duration(text: string | undefined, name: string, fallbackMs: number): number {
  if (text === undefined) return fallbackMs;
  const [, amount = '', unit = ''] = /^(\d{1,6})(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(amount) * (UNIT_MS.get(unit) ?? Number.NaN);
  if (ms > 0) return ms;
  throw bad(`${name} is ${JSON.stringify(text.slice(0, 20))}; want a duration such as 30m`);
}

function decoded(part: string, name: string): string {
  try {
    const text = decodeURIComponent(part);
    if (!text.includes('\0')) return text;
  } catch {
    throw bad(`its ${name} is not percent-encoded UTF-8`);
  }
  throw bad(`its ${name} holds a NUL`);
}

function bad(fact: string): BuilderdError {
  return new BuilderdError('config.invalid', `Cannot use DATABASE_URL: ${fact}`);
}
