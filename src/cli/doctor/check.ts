/**
 * ok: as it should be. warn: images can be converted, but something is weaker, slower or missing
 * for what comes later. fail: images cannot be converted on this host.
 */
export type Verdict = 'ok' | 'warn' | 'fail';

export interface Check {
  /** Stable, for programs: `containerd.version`. */
  readonly id: string;
  readonly verdict: Verdict;
  /** What was found, one line. */
  readonly fact: string;
  /** What to do about it; absent when nothing needs to be done. */
  readonly advice?: string;
}

export function ok(id: string, fact: string): Check {
  return { id, verdict: 'ok', fact };
}

export function warn(id: string, fact: string, advice: string): Check {
  return { id, verdict: 'warn', fact, advice };
}

export function fail(id: string, fact: string, advice: string): Check {
  return { id, verdict: 'fail', fact, advice };
}
