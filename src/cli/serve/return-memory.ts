import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** After the first requests of whoever waited for the service. */
const SETTLED_MS = 2000;

/**
 * What starting leaves behind (sources, syntax trees, half-empty pages) is a third of an idle process,
 * and V8 does not look for it while nothing happens. Once, it is made to: that takes a tenth of a second.
 */
export function returnMemoryOnceStarted(): NodeJS.Timeout {
  return setTimeout(() => {
    // As a flag of the command line it would have to stand in every unit file.
    setFlagsFromString('--expose-gc');
    const collect: unknown = runInNewContext('gc');
    setFlagsFromString('--no-expose-gc');
    if (typeof collect !== 'function') return;
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  }, SETTLED_MS).unref();
}
