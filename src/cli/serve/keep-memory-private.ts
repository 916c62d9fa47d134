import { writeFileSync } from 'node:fs';
import { loadAddon } from '../../../native/addon.ts';
import { errnoOf } from '../../core/errors.ts';

/** core(5): which mappings a core dump holds. Children and what they execute inherit it. */
const CORE_FILTER = '/proc/self/coredump_filter';

/**
 * From here on no file that a crash leaves holds what this process and its children know: keys,
 * tokens, tenants' bytes. A core dump has registers and no memory, a report of Node no environment.
 * Gives the reason where the kernel does not let it.
 */
export function keepMemoryPrivate(): string | undefined {
  process.report.excludeEnv = true;
  try {
    // No file at all; but what core_pattern(5) pipes to a program does not ask for this limit.
    loadAddon()?.noCoreFiles();
    writeFileSync(CORE_FILTER, '0');
    return undefined;
  } catch (reason) {
    return errnoOf(reason) ?? 'unknown';
  }
}
