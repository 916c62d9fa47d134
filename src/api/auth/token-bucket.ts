export interface BucketSize {
  readonly perMinute: number;
  readonly burst: number;
}

export interface BucketState {
  readonly taken: boolean;
  /** Whole requests left. */
  readonly remaining: number;
  /** Until the bucket is full again. */
  readonly resetSeconds: number;
  /** Until one request is welcome; 0 when one is. */
  readonly retrySeconds: number;
}

interface Level {
  tokens: number;
  at: number;
}

/**
 * Token buckets by key, at most `maxKeys`: the least lately used one is forgotten first, which
 * fills it. `nowMs` is monotonic.
 */
export class TokenBuckets {
  readonly #levels = new Map<string, Level>();
  readonly #maxKeys: number;
  readonly #nowMs: () => number;

  constructor({ maxKeys, nowMs }: { readonly maxKeys: number; readonly nowMs: () => number }) {
    this.#maxKeys = maxKeys;
    this.#nowMs = nowMs;
  }

  take(key: string, size: BucketSize): BucketState {
    const level = this.#levelOf(key, size);
    const taken = level.tokens >= 1;
    if (taken) level.tokens -= 1;
    return stateOf(level, size, taken);
  }

  /** Undoes one `take`. */
  giveBack(key: string, size: BucketSize): void {
    const level = this.#levelOf(key, size);
    level.tokens = Math.min(size.burst, level.tokens + 1);
  }

  #levelOf(key: string, { perMinute, burst }: BucketSize): Level {
    const now = this.#nowMs();
    const known = this.#levels.get(key);
    const level = known ?? { tokens: burst, at: now };
    level.tokens = Math.min(burst, level.tokens + ((now - level.at) * perMinute) / 60_000);
    level.at = now;
    this.#levels.delete(key);
    this.#levels.set(key, level);
    if (this.#levels.size > this.#maxKeys) {
      const [oldest] = this.#levels.keys();
      if (oldest !== undefined) this.#levels.delete(oldest);
    }
    return level;
  }
}

function stateOf({ tokens }: Level, { perMinute, burst }: BucketSize, taken: boolean): BucketState {
  const secondsFor = (count: number): number => Math.max(0, Math.ceil((count * 60) / perMinute));
  return {
    taken,
    remaining: Math.max(0, Math.floor(tokens)),
    resetSeconds: secondsFor(burst - tokens),
    retrySeconds: tokens >= 1 ? 0 : Math.max(1, secondsFor(1 - tokens)),
  };
}
