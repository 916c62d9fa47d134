import { isBuilderdError } from '../../core/errors.ts';
import { problemOf } from '../http/problem.ts';
import { eventFrame } from './event-frame.ts';

/**
 * The last event of a stream whose caller may no longer have it, a problem document; undefined for
 * other reasons, after which the reader simply comes back.
 */
export function endFrame(reason: unknown, requestId: string): string | undefined {
  const isRefusal =
    isBuilderdError(reason, 'api.unauthenticated') || isBuilderdError(reason, 'api.forbidden');
  return isRefusal ? eventFrame('fault', problemOf(reason, requestId)) : undefined;
}
