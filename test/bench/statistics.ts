export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Undefined for no values. */
export function summarise(values: readonly number[]): Summary | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const low = sorted.at((sorted.length - 1) >> 1);
  const high = sorted.at(sorted.length >> 1);
  const min = sorted.at(0);
  const max = sorted.at(-1);
  if (low === undefined || high === undefined || min === undefined || max === undefined) {
    return undefined;
  }
  return { median: (low + high) / 2, min, max };
}
