import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheRoot } from '../../../contrib/dev/cache.ts';
import { describeMachine } from '../machine.ts';
import { renderVerdicts } from '../targets.ts';
import { openDatabaseKinds } from './bench-database.ts';
import { measureClaims } from './claims.ts';
import { measureFollowers } from './followers.ts';
import { renderService, serviceVerdicts } from './report.ts';
import { measureStartUp } from './start-up.ts';
import { measureThroughput } from './throughput.ts';

export interface ServiceBenchOptions {
  /** Everything once and short: does it run? */
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

const FULL = { claims: 2000, rounds: 5, seconds: 5, followSeconds: 20, starts: 5 };
const QUICK = { claims: 200, rounds: 1, seconds: 1, followSeconds: 3, starts: 1 };

/** The service against its targets, on both databases; gives the report. */
export async function serviceBench({ quick, signal, say }: ServiceBenchOptions): Promise<string> {
  const size = quick ? QUICK : FULL;
  await mkdir(join(cacheRoot(), 'bench'), { recursive: true });
  const dir = await mkdtemp(join(cacheRoot(), 'bench', 'svc-'));
  try {
    await using databases = await openDatabaseKinds(dir);
    const { kinds } = databases;
    const each = async <T>(what: string, measure: (kind: (typeof kinds)[number]) => Promise<T>) => {
      const results: T[] = [];
      for (const kind of kinds) {
        signal.throwIfAborted();
        say(`${what} on ${kind.title}`);
        results.push(await measure(kind));
      }
      return results;
    };
    const claims = await each('claims', async (kind) => [
      ...(await measureClaims(kind, { tenants: 100, claims: size.claims })),
      ...(await measureClaims(kind, { tenants: 1000, claims: size.claims })),
    ]);
    const throughput = await each('requests', (kind) =>
      measureThroughput(kind, { dir, rounds: size.rounds, seconds: size.seconds }),
    );
    const followers = await each('followers', (kind) =>
      measureFollowers(kind, { seconds: size.followSeconds }),
    );
    const startUps = await each('starts', (kind) =>
      measureStartUp(kind, { dir, starts: size.starts }),
    );
    const results = { claims: claims.flat(), throughput: throughput.flat(), followers, startUps };
    const machine = await describeMachine(dir, signal);
    return [
      '# Benchmark results of the service',
      '',
      `Written by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}; README.md says what is measured and how.`,
      `${size.rounds} counted rounds of ${size.seconds} s for each route; medians of ${size.starts} starts.`,
      '',
      ...machine.map((line) => `- ${line}`),
      '',
      '## Targets',
      '',
      renderVerdicts(serviceVerdicts(results)),
      '',
      ...renderService(results),
    ].join('\n');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
