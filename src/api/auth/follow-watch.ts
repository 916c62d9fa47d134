import { setTimeout as pause } from 'node:timers/promises';
import type { Clock } from '../../core/clock.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';

export interface FollowWatch {
  /** Of the stream: the watch ends with it. */
  readonly signal: AbortSignal;
  /** Between two looks. */
  readonly everyMs: number;
  /** When the credential ends, by the clock. */
  readonly expiresAt?: number;
  readonly clock: Clock;
  /** Why the caller may not go on, or undefined. Throws when that cannot be told now. */
  readonly refusal: () => Promise<BuilderdError | undefined>;
  readonly end: (reason: BuilderdError) => void;
  readonly log: Log;
  readonly requestId: string;
}

/**
 * Looks again and again whether the caller of a stream may still have it: a stream may last for
 * hours, a token may be revoked in the next minute. Settles always.
 */
export async function watchFollower(watch: FollowWatch): Promise<void> {
  const { signal, everyMs, expiresAt, clock, refusal, end, log, requestId } = watch;
  while (!signal.aborted) {
    const leftMs =
      expiresAt === undefined ? Number.POSITIVE_INFINITY : expiresAt - clock.now().getTime();
    if (leftMs <= 0) {
      end(ended('the token that was sent has expired'));
      return;
    }
    try {
      await pause(Math.min(everyMs, leftMs), undefined, { signal, ref: false });
      const reason = leftMs > everyMs ? await refusal() : undefined;
      if (reason !== undefined) end(reason);
    } catch (err) {
      // The next look may tell; what follows reads the same database and ends if that stays away.
      if (!signal.aborted) log.debug({ err, requestId }, 'Cannot verify a follower anew');
    }
  }
}

export function ended(fact: string): BuilderdError {
  return new BuilderdError('api.unauthenticated', `Cannot go on with the stream: ${fact}`);
}
