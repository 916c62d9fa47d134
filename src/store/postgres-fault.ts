import { asBuilderdError, BuilderdError, messageOf } from '../core/errors.ts';

/** SQLSTATE, as PostgreSQL's errors carry it (appendix A of its manual). */
function sqlStateOf(reason: unknown): string | undefined {
  if (!(reason instanceof Error) || !('code' in reason) || !('severity' in reason)) {
    return undefined;
  }
  return typeof reason.code === 'string' && /^[0-9A-Z]{5}$/.test(reason.code)
    ? reason.code
    : undefined;
}

const SERIALIZATION_FAILURE = '40001';
const DEADLOCK = '40P01';
const UNIQUE_VIOLATION = '23505';

/** The whole transaction was undone because of another one and may be tried again. */
export function isPostgresConflict(reason: unknown): boolean {
  const state = sqlStateOf(reason);
  return state === SERIALIZATION_FAILURE || state === DEADLOCK;
}

export function isPostgresUniqueViolation(reason: unknown): boolean {
  return sqlStateOf(reason) === UNIQUE_VIOLATION;
}

/** No answer of the server, or one after which it closes the connection. */
export function breaksConnection(reason: unknown): boolean {
  const state = sqlStateOf(reason);
  return state === undefined || state.startsWith('08') || state.startsWith('57P');
}

/** What the operator should look at, by class or by code. */
const FACTS: readonly (readonly [prefix: string, fact: string])[] = [
  ['28', 'the server refuses the user or the password'],
  ['3D000', 'there is no database of that name'],
  ['42501', 'the user lacks a privilege'],
  ['53300', 'the server has no connection left'],
  ['57014', 'a statement took too long'],
  ['55P03', 'a lock was not free in time'],
  ['57P', 'the server shuts down, starts or ended the connection'],
  ['25006', 'the server is read-only: a standby, or in the middle of a failover'],
  ['25P03', 'the transaction was idle for too long'],
  ['08', 'the connection broke'],
  ['53', 'the server is out of resources'],
  ['40', 'it kept colliding with other transactions'],
];

/** The one place that gives pg's errors a meaning. Texts of the server hold no values of ours. */
export function postgresFault(reason: unknown, doing: string): BuilderdError {
  if (reason instanceof BuilderdError) return reason;
  const cause = { cause: reason };
  const state = sqlStateOf(reason);
  if (state === undefined) {
    return isProgramFault(reason)
      ? asBuilderdError(reason, doing)
      : new BuilderdError(
          'database.unavailable',
          `Cannot ${doing}: ${connectionFact(reason)}`,
          cause,
        );
  }
  if (state === '53100') {
    return new BuilderdError(
      'storage.full',
      `Cannot ${doing}: the disk of PostgreSQL is full`,
      cause,
    );
  }
  if (state === '42P01' || state === '42703') {
    return new BuilderdError('database.schema', `Cannot ${doing}: ${messageOf(reason)}`, cause);
  }
  const fact = FACTS.find(([prefix]) => state.startsWith(prefix))?.[1];
  const code = fact === undefined ? 'internal' : 'database.unavailable';
  const text = fact === undefined ? messageOf(reason) : `${fact} (${state})`;
  return new BuilderdError(code, `Cannot ${doing}: ${text}`, cause);
}

function isProgramFault(reason: unknown): boolean {
  return reason instanceof TypeError || reason instanceof RangeError;
}

/** Several addresses that all refuse come as one AggregateError without a text. */
function connectionFact(reason: unknown): string {
  const first: unknown = reason instanceof AggregateError ? reason.errors[0] : reason;
  return messageOf(first) || 'the connection failed';
}
