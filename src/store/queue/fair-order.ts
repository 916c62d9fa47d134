/** A tenant that has a build ready to start. */
export interface Contender {
  readonly tenantId: string;
  /** Builds of it that executors hold, on all hosts. */
  readonly running: number;
  readonly weight: number;
  /** Virtual time at which its next claim is due. */
  readonly pass: number;
  /** The build that it would start; ids are ordered by time. */
  readonly head: string;
}

/** What one claim costs a tenant of weight 1; a weight of 10,000 still counts. */
const CLAIM_COST = 1_000_000;

/**
 * Who comes next: who has the least running for its weight; among equals who is due first in
 * virtual time (start-time fair queueing), so that shares hold on a host that runs one build at a
 * time as well; among those whose build waits the longest. A build's priority counts only within
 * its tenant: nobody can overtake others by asking for more of it.
 */
export function inFairOrder<C extends Contender>(
  contenders: readonly C[],
  virtualTime: number,
): readonly C[] {
  return contenders.toSorted(
    (a, b) =>
      a.running * b.weight - b.running * a.weight ||
      Math.max(a.pass, virtualTime) - Math.max(b.pass, virtualTime) ||
      (a.head < b.head ? -1 : 1),
  );
}

export interface VirtualTimes {
  readonly virtualTime: number;
  readonly pass: number;
}

/** After a claim. Who was idle starts at the present: waiting earns no credit. */
export function chargeClaim(
  { pass, weight }: Pick<Contender, 'pass' | 'weight'>,
  virtualTime: number,
): VirtualTimes {
  const start = Math.max(pass, virtualTime);
  return { virtualTime: start, pass: start + Math.max(1, Math.round(CLAIM_COST / weight)) };
}
