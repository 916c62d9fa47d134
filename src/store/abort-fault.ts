import { BuilderdError } from '../core/errors.ts';

/** What waiting for the database ends with when its signal did. */
export function abortFault(signal: AbortSignal | undefined, doing: string): BuilderdError {
  const reason: unknown = signal?.reason;
  if (reason instanceof BuilderdError) return reason;
  return new BuilderdError('build.cancelled', `Cannot ${doing}: it was cancelled`, {
    cause: reason,
  });
}
