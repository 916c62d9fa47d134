/**
 * Runs `work` for every item, at most `limit` at once, in order. The first fault aborts the rest;
 * it is thrown after all have ended, so that nothing runs on behind the caller's back.
 */
export async function runLimited<T>(
  items: readonly T[],
  limit: number,
  call: { readonly signal: AbortSignal },
  work: (item: T, call: { readonly signal: AbortSignal }) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, stop.signal]);
  const queue = items.values();
  let first: { readonly reason: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (first !== undefined) return;
      try {
        await work(item, { signal });
      } catch (reason) {
        first ??= { reason };
        stop.abort(reason);
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  if (first !== undefined) throw first.reason;
}
