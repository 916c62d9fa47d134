import { ERRORS, type ErrorCode, type ErrorEntry } from './error-catalogue.ts';

/** Facts that help a program or a log line; never secrets, never host paths of other tenants. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean>>;

/**
 * The one error class of the product. `code` is the contract; the text is for people and reads
 * "Cannot <do what> <to what>: <fact>" without a final period.
 */
export class BuilderdError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: ErrorDetails } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BuilderdError';
    this.code = code;
    this.details = options.details ?? {};
  }

  get entry(): ErrorEntry {
    return ERRORS[this.code];
  }
}

export function isBuilderdError(reason: unknown, code?: ErrorCode): reason is BuilderdError {
  return reason instanceof BuilderdError && (code === undefined || reason.code === code);
}

/** The errno name of a Node system error, or undefined. */
export function errnoOf(reason: unknown): string | undefined {
  if (!(reason instanceof Error) || !('code' in reason)) return undefined;
  return typeof reason.code === 'string' ? reason.code : undefined;
}

/** One line that says what went wrong, for any thrown value. */
export function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason);
}

/**
 * Turns any fault into a BuilderdError. Typed errors pass unchanged; an abort becomes
 * `build.cancelled`; disk faults keep their meaning; the rest is `internal` with its cause.
 */
export function asBuilderdError(reason: unknown, doing: string): BuilderdError {
  if (reason instanceof BuilderdError) return reason;
  if (reason instanceof Error && reason.name === 'AbortError') {
    return reason.cause instanceof BuilderdError
      ? reason.cause
      : new BuilderdError('build.cancelled', `Cannot ${doing}: it was cancelled`, {
          cause: reason,
        });
  }
  const errno = errnoOf(reason);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new BuilderdError('storage.full', `Cannot ${doing}: the disk is full (${errno})`, {
      cause: reason,
    });
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new BuilderdError('host.permission', `Cannot ${doing}: ${messageOf(reason)}`, {
      cause: reason,
    });
  }
  return new BuilderdError('internal', `Cannot ${doing}: ${messageOf(reason)}`, { cause: reason });
}
