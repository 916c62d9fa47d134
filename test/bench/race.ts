import { join } from 'node:path';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { messageOf } from '../../src/core/errors.ts';
import type { Contestant } from './contestant.ts';
import { measure, type Sample } from './measure.ts';
import type { Stage } from './stage.ts';

export interface Outcome {
  readonly contestant: Contestant;
  readonly samples: readonly Sample[];
  /** Size of what came out, where something did. */
  readonly artifactBytes?: number;
  /** Why it has no (further) figures. */
  readonly fault?: string;
}

export interface RaceOptions {
  readonly rounds: number;
  /** Run everything once uncounted that is quick enough. */
  readonly warmUp: boolean;
  readonly onProgress: (line: string) => void;
}

/** The first run of something quicker than this is a warm-up and not counted. */
const WARM_UP_BELOW_MS = 10_000;
/** Slower contestants get fewer rounds: their spread is small against their distance. */
const SLOW_MS = 20_000;
const VERY_SLOW_MS = 60_000;

interface Entry {
  readonly contestant: Contestant;
  readonly samples: Sample[];
  runs: number;
  artifactBytes?: number;
  fault?: string;
}

/**
 * Interleaved rounds: each round runs everybody once, starting with another one each time, so that
 * a slow minute of the machine hits all alike. One that fails is out, and says so in the results.
 */
export async function race(
  stage: Stage,
  contestants: readonly Contestant[],
  options: RaceOptions,
): Promise<Outcome[]> {
  const entries = contestants.map((contestant): Entry => ({ contestant, samples: [], runs: 0 }));
  const totalRounds = options.rounds + (options.warmUp ? 1 : 0);
  for (let round = 0; round < totalRounds; round += 1) {
    const first = entries.length === 0 ? 0 : round % entries.length;
    for (const entry of [...entries.slice(first), ...entries.slice(0, first)]) {
      if (entry.fault !== undefined || isDone(entry, options)) continue;
      await runOnce(stage, entry, round, options);
    }
  }
  return entries.map(({ contestant, samples, artifactBytes, fault }) => ({
    contestant,
    samples,
    ...(artifactBytes === undefined ? {} : { artifactBytes }),
    ...(fault === undefined ? {} : { fault }),
  }));
}

function isDone({ samples }: Entry, { rounds }: RaceOptions): boolean {
  const fastest = Math.min(...samples.map((sample) => sample.wallMs));
  // Without a sample the fastest is Infinity, which says nothing about the contestant.
  if (!Number.isFinite(fastest)) return false;
  if (fastest > VERY_SLOW_MS) return samples.length >= Math.min(2, rounds);
  if (fastest > SLOW_MS) return samples.length >= Math.min(3, rounds);
  return samples.length >= rounds;
}

async function runOnce(
  stage: Stage,
  entry: Entry,
  round: number,
  options: RaceOptions,
): Promise<void> {
  const { contestant } = entry;
  try {
    const commands = await contestant.prepare();
    const sample = await measure(commands, {
      timeFile: join(stage.dir, 'time.txt'),
      daemons: contestant.daemons?.() ?? [],
      signal: stage.signal,
    });
    entry.runs += 1;
    if (entry.runs === 1) {
      const bytes = await contestant.inspect?.();
      if (bytes !== undefined) entry.artifactBytes = bytes;
    }
    const isWarmUp = options.warmUp && entry.runs === 1 && sample.wallMs < WARM_UP_BELOW_MS;
    if (!isWarmUp) entry.samples.push(sample);
    const seconds = (sample.wallMs / 1000).toFixed(2);
    const note = isWarmUp ? ' (warm-up)' : '';
    options.onProgress(
      `round ${round + 1}, ${contestant.fixture}: ${contestant.name}: ${seconds} s${note}`,
    );
  } catch (reason) {
    stage.signal.throwIfAborted();
    entry.fault = messageOf(reason);
    options.onProgress(`${contestant.fixture}: ${contestant.name}: ${entry.fault}`);
  } finally {
    await contestant.cleanup();
    // The next one must not pay for writing back what this one left behind.
    await runProgram('sync', ['--file-system', stage.dir]);
  }
}
