import type { FilterSpec } from '../rootfs/filter/filter-spec.ts';
import type { BuildSpec } from './build-spec.ts';

/** What of the image a request leaves out; undefined when it leaves out nothing. */
export function requestedFilter(target: BuildSpec['target']): FilterSpec | undefined {
  const { exclude = [], preserve = [], removeDocs = false, removeCache = false } = target ?? {};
  if (exclude.length === 0 && preserve.length === 0 && !removeDocs && !removeCache)
    return undefined;
  return { exclude, preserve, removeDocs, removeCache };
}
