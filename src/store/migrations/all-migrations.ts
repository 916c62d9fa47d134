import { up as initial } from './0001-initial.ts';
import type { Migration } from './migration-context.ts';

/** In the order in which they run. A name, once released, stays. */
export const MIGRATIONS: readonly Migration[] = [{ name: '0001-initial', up: initial }];
