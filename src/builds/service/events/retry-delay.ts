export interface RetryPolicy {
  /** Tries in all. */
  readonly maxAttempts: number;
  readonly firstMs: number;
  readonly longestMs: number;
}

/** 12 tries over about 5 hours. */
export const WEBHOOK_RETRIES: RetryPolicy = {
  maxAttempts: 12,
  firstMs: 10_000,
  longestMs: 3_600_000,
};

/**
 * Time until the try after `attempt` (from 1), or undefined when that was the last: doubling, with
 * half of it left to chance, so that receivers that came back are not met by everybody at once.
 * `random` is in [0, 1).
 */
export function retryDelayMs(
  attempt: number,
  policy: RetryPolicy,
  random: number,
  askedMs = 0,
): number | undefined {
  if (attempt >= policy.maxAttempts) return undefined;
  const full = Math.min(policy.firstMs * 2 ** (attempt - 1), policy.longestMs);
  return Math.max(Math.round(full / 2 + (full / 2) * random), askedMs);
}
