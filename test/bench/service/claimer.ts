import { sql } from 'kysely';
import { BuilderdError } from '../../../src/core/errors.ts';
import type { Database, DatabaseConfig } from '../../../src/store/database.ts';
import { CLAIM_LOCK, claimBuild } from '../../../src/store/queue/claim-build.ts';
import type { Fenced } from '../../../src/store/queue/claim.ts';
import { endBuild } from '../../../src/store/queue/end-build.ts';
import { answerCalls } from './answer-calls.ts';
import { inTime, openBenchDatabase } from './bench-database.ts';

/** Builds that the host has at once: as one is claimed, the oldest one ends. */
const RUNNING = 20;

let opened: Database | undefined;

/** Of one claim, in milliseconds. */
export interface ClaimTime {
  /** The transaction: from having the lock that lets one claim in at a time, to the commit. */
  readonly transaction: number;
  /** The whole call: with the look whether anything waits, and with the wait for that lock. */
  readonly call: number;
}

answerCalls({
  async open(config: DatabaseConfig) {
    opened = await openBenchDatabase(config);
  },
  async claim({
    name,
    count,
  }: {
    readonly name: string;
    readonly count: number;
  }): Promise<ClaimTime[]> {
    if (opened === undefined) throw new Error('the database is not open');
    const database = opened;
    let lockedAt = 0;
    const timed: Database = {
      ...database,
      transaction: (body, options) =>
        database.transaction(async (tx) => {
          // SQLite's transaction has its lock when it begins; here it is taken twice, which is free.
          if (tx.dialect === 'postgres') {
            await sql.raw(`select pg_advisory_xact_lock(${CLAIM_LOCK})`).execute(tx.k);
          }
          lockedAt = performance.now();
          return await body(tx);
        }, options),
    };
    const held: Fenced[] = [];
    const end = async (fenced: Fenced | undefined): Promise<void> => {
      if (fenced === undefined) return;
      const error = new BuilderdError('source.invalid', 'Cannot build: it is a benchmark');
      await database.transaction((tx) => endBuild(tx, fenced, { state: 'failed', error }), {
        signal: inTime(),
      });
    };
    const times: ClaimTime[] = [];
    while (times.length < count) {
      if (held.length >= RUNNING) await end(held.shift());
      const startedAt = performance.now();
      const claim = await claimBuild(timed, {
        owner: name,
        host: name,
        leaseMs: 60_000,
        slots: { count: RUNNING + 1 },
        maxConcurrent: RUNNING + 1,
        freeMemoryBytes: Number.MAX_SAFE_INTEGER,
        freeDiskBytes: Number.MAX_SAFE_INTEGER,
        signal: inTime(),
      });
      const now = performance.now();
      times.push({ transaction: now - lockedAt, call: now - startedAt });
      if (claim === undefined) throw new Error('nothing could be claimed');
      held.push({ buildId: claim.buildId, attempt: claim.attempt, owner: name });
    }
    for (const fenced of held) await end(fenced);
    return times;
  },
});
