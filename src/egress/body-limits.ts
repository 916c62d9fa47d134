import { unreachable } from './faults.ts';

export interface RateFloor {
  /** A body that brings fewer bytes than this in each `windowMs` of waiting is given up. */
  readonly minBytesPerSecond: number;
  readonly windowMs: number;
}

/**
 * Passes chunks through and gives up on a peer that trickles. Only time spent waiting for the
 * peer counts, so that a slow consumer is not held against it.
 */
export async function* withRateFloor(
  chunks: AsyncIterable<Buffer>,
  floor: RateFloor,
  doing: string,
  now: () => number,
): AsyncGenerator<Buffer, void, void> {
  let waitedMs = 0;
  let windowBytes = 0;
  let since = now();
  for await (const chunk of chunks) {
    waitedMs += now() - since;
    windowBytes += chunk.length;
    if (waitedMs >= floor.windowMs) {
      if (windowBytes < (floor.minBytesPerSecond * waitedMs) / 1000) {
        throw unreachable(
          doing,
          `the peer sent ${windowBytes} bytes in ${Math.round(waitedMs / 1000)} s`,
          undefined,
          true,
        );
      }
      waitedMs = 0;
      windowBytes = 0;
    }
    yield chunk;
    since = now();
  }
}
