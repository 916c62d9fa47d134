/**
 * The promise, or the signal's reason as soon as it aborts. The work behind the promise goes on, and
 * nobody hears how it ends: only for waits on something shared, or as the last resort for something
 * that cannot be stopped.
 */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    // Also when it has aborted already: work that fails later would end the process otherwise.
    return await Promise.race([aborted.promise, work]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
