/** Which files of an image do not get into its artifacts; patterns as their caller wrote them. */
export interface FilterSpec {
  readonly exclude: readonly string[];
  /** Stronger than everything that leaves files out. */
  readonly preserve: readonly string[];
  readonly removeDocs: boolean;
  readonly removeCache: boolean;
}

/** Equal for filters that keep the same files, whatever the order of their patterns; '' for none. */
export function filterIdentity({ exclude, preserve, removeDocs, removeCache }: FilterSpec): string {
  if (exclude.length === 0 && !removeDocs && !removeCache) return '';
  const sorted = (patterns: readonly string[]) => [...new Set(patterns)].sort();
  return JSON.stringify([sorted(exclude), sorted(preserve), removeDocs, removeCache]);
}
