/** After the first requests of whoever waited for the service. */
const SETTLED_MS = 2000;

/**
 * What starting leaves behind (sources, syntax trees, half-empty pages) is a third of an idle role, and
 * V8 does not look for it while nothing happens. Once, it is made to: that takes a tenth of a second.
 */
export function returnMemoryOnceStarted(): NodeJS.Timeout {
  const timer = setTimeout(() => {
    globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  }, SETTLED_MS);
  return timer.unref();
}
