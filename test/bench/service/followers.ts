import { setTimeout as sleep } from 'node:timers/promises';
import { openLogWriter } from '../../../src/builds/logs/log-writer.ts';
import { LOG_LIMITS } from '../../../src/builds/logs/log-limits.ts';
import { rssBytesOf } from '../procfs.ts';
import { percentile } from '../statistics.ts';
import { type DatabaseKind, inTime, openBenchDatabase } from './bench-database.ts';
import { HelperProcess } from './helper-process.ts';
import type { Crowd, CrowdReport } from './follower-crowd.ts';
import { claimNext, seedTenants, seedWaiting } from './seed.ts';

const READERS = 450;
const SLEEPERS = 50;
/** Of the log before the crowd comes: more than sockets hold for somebody who does not read. */
const BACKLOG_ENTRIES = 30_000;
const LINES_EACH_100_MS = 2;
const SAMPLE_MS = 100;
const SETTLE_MS = 2000;

export interface FollowerTimes {
  readonly database: string;
  readonly readers: number;
  readonly sleepers: number;
  readonly delivered: number;
  readonly expected: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly grownBytes: number;
}

/** 500 followers of one running build whose log grows in another process, as an executor writes it. */
export async function measureFollowers(
  kind: DatabaseKind,
  { seconds }: { readonly seconds: number },
): Promise<FollowerTimes> {
  const config = await kind.fresh();
  await using database = await openBenchDatabase(config);
  const [tenant] = await seedTenants(database, 1);
  if (tenant === undefined) throw new Error('Nothing was seeded');
  await seedWaiting(database, tenant.id, 1);
  const fenced = await claimNext(database);
  // The backlog may come at once.
  const limits = { ...LOG_LIMITS, bytesPerSecond: 1e9, queueBytes: 1e9 };
  await using writer = openLogWriter(database, fenced, { mask: [], limits });
  const write = (message: string): void =>
    writer.write({ time: Date.now(), level: 'info', component: 'bench', message });
  for (let n = 0; n < BACKLOG_ENTRIES; n += 1) {
    write(`line ${n} of the backlog ${'.'.repeat(150)}`);
  }
  await until(async () => (await entriesOf(database, fenced.buildId)) >= BACKLOG_ENTRIES);

  await using api = await HelperProcess.start('./follower-api.ts');
  await using crowd = await HelperProcess.start('./follower-crowd.ts');
  const { port, token } = await api.call<{ port: number; token: string }>('listen', {
    config,
    tenant,
  });
  const path = `/v1/builds/${fenced.buildId}/logs`;
  // One request compiles what all of them run.
  await fetch(`http://127.0.0.1:${port}${path}?from=0`, {
    headers: { authorization: `Bearer ${token}`, accept: 'application/json' },
  }).then((answer) => answer.text());
  await sleep(SETTLE_MS);
  const idleBytes = rssBytesOf(api.pid);
  let peakBytes = idleBytes;
  const sampler = setInterval(() => {
    peakBytes = Math.max(peakBytes, rssBytesOf(api.pid));
  }, SAMPLE_MS);
  const job: Crowd = {
    port,
    token,
    path,
    readers: READERS,
    sleepers: SLEEPERS,
    from: BACKLOG_ENTRIES,
  };
  let written = 0;
  try {
    await crowd.call('join', job);
    await sleep(SETTLE_MS);
    const endsAt = performance.now() + seconds * 1000;
    while (performance.now() < endsAt) {
      for (let n = 0; n < LINES_EACH_100_MS; n += 1) {
        write(`at=${Date.now()} ${'.'.repeat(100)}`);
        written += 1;
      }
      await sleep(100);
    }
    await sleep(SETTLE_MS);
  } finally {
    clearInterval(sampler);
  }
  const { entries, delays } = await crowd.call<CrowdReport>('report');
  const list = [...delays];
  return {
    database: kind.title,
    readers: READERS,
    sleepers: SLEEPERS,
    delivered: entries,
    expected: written * READERS,
    p50Ms: percentile(list, 50),
    p99Ms: percentile(list, 99),
    grownBytes: peakBytes - idleBytes,
  };
}

async function entriesOf(
  database: Awaited<ReturnType<typeof openBenchDatabase>>,
  id: string,
): Promise<number> {
  const { log_entries: entries } = await database.k
    .selectFrom('builds')
    .select('log_entries')
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
  return entries;
}

async function until(done: () => Promise<boolean>): Promise<void> {
  const signal = inTime();
  while (!(await done())) await sleep(50, undefined, { signal });
}
