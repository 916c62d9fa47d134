import { BuilderdError } from '../../../src/core/errors.ts';
import type { Database, DatabaseConfig } from '../../../src/store/database.ts';
import { claimBuild } from '../../../src/store/queue/claim-build.ts';
import type { Fenced } from '../../../src/store/queue/claim.ts';
import { endBuild } from '../../../src/store/queue/end-build.ts';
import { answerCalls } from './answer-calls.ts';
import { inTime, openBenchDatabase } from './bench-database.ts';

/** Builds that the host has at once: as one is claimed, the oldest one ends. */
const RUNNING = 20;

let opened: Database | undefined;

answerCalls({
  async open(config: DatabaseConfig) {
    opened = await openBenchDatabase(config);
  },
  /** Milliseconds of each claim, with the look whether anything waits that stands before it. */
  async claim({ name, count }: { readonly name: string; readonly count: number }) {
    if (opened === undefined) throw new Error('the database is not open');
    const database = opened;
    const held: Fenced[] = [];
    const end = async (fenced: Fenced | undefined): Promise<void> => {
      if (fenced === undefined) return;
      const error = new BuilderdError('source.invalid', 'Cannot build: it is a benchmark');
      await database.transaction((tx) => endBuild(tx, fenced, { state: 'failed', error }), {
        signal: inTime(),
      });
    };
    const times: number[] = [];
    while (times.length < count) {
      if (held.length >= RUNNING) await end(held.shift());
      const startedAt = performance.now();
      const claim = await claimBuild(database, {
        owner: name,
        host: name,
        leaseMs: 60_000,
        slots: { count: RUNNING + 1 },
        maxConcurrent: RUNNING + 1,
        freeMemoryBytes: Number.MAX_SAFE_INTEGER,
        freeDiskBytes: Number.MAX_SAFE_INTEGER,
        signal: inTime(),
      });
      times.push(performance.now() - startedAt);
      if (claim === undefined) throw new Error('nothing could be claimed');
      held.push({ buildId: claim.buildId, attempt: claim.attempt, owner: name });
    }
    for (const fenced of held) await end(fenced);
    return times;
  },
});
