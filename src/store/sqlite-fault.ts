import { asBuilderdError, BuilderdError, messageOf } from '../core/errors.ts';

/** Primary result codes (sqlite.org/rescode.html). */
const CODES = {
  perm: 3,
  busy: 5,
  locked: 6,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  constraint: 19,
  notADatabase: 26,
} as const;
const CONSTRAINT_UNIQUE = 2067;
const CONSTRAINT_PRIMARY_KEY = 1555;

/** The extended result code of a node:sqlite error. */
function extendedCodeOf(reason: unknown): number | undefined {
  if (!(reason instanceof Error) || !('errcode' in reason)) return undefined;
  return typeof reason.errcode === 'number' ? reason.errcode : undefined;
}

/** Another connection holds the lock; the statement had no effect. */
export function isSqliteBusy(reason: unknown): boolean {
  const code = extendedCodeOf(reason);
  return code !== undefined && (code & 0xff) === CODES.busy;
}

export function isSqliteUniqueViolation(reason: unknown): boolean {
  const code = extendedCodeOf(reason);
  return code === CONSTRAINT_UNIQUE || code === CONSTRAINT_PRIMARY_KEY;
}

/** The one place that gives node:sqlite's errors a meaning. */
export function sqliteFault(reason: unknown, doing: string): BuilderdError {
  const code = extendedCodeOf(reason);
  if (code === undefined) return asBuilderdError(reason, doing);
  const cause = { cause: reason };
  switch (code & 0xff) {
    case CODES.full:
      return new BuilderdError('storage.full', `Cannot ${doing}: the disk is full`, cause);
    case CODES.ioError:
      return new BuilderdError('storage.failed', `Cannot ${doing}: ${messageOf(reason)}`, cause);
    case CODES.corrupt:
    case CODES.notADatabase:
      return new BuilderdError(
        'storage.failed',
        `Cannot ${doing}: the file is damaged or no SQLite database`,
        cause,
      );
    case CODES.busy:
    case CODES.locked:
      return new BuilderdError(
        'database.unavailable',
        `Cannot ${doing}: another process holds the database for too long`,
        cause,
      );
    case CODES.perm:
    case CODES.readOnly:
    case CODES.cannotOpen:
      return new BuilderdError(
        'database.unavailable',
        `Cannot ${doing}: ${messageOf(reason)}`,
        cause,
      );
    default:
      return new BuilderdError('internal', `Cannot ${doing}: ${messageOf(reason)}`, cause);
  }
}
