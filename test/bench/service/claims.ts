import type { DatabaseKind } from './bench-database.ts';
import { openBenchDatabase } from './bench-database.ts';
import type { ClaimTime } from './claimer.ts';
import { HelperProcess } from './helper-process.ts';
import { percentile } from '../statistics.ts';
import { seedTenants, seedWaiting } from './seed.ts';

const QUEUED = 10_000;

export interface ClaimTimes {
  readonly database: string;
  readonly tenants: number;
  readonly claimers: number;
  readonly claims: number;
  readonly transaction: Spread;
  readonly call: Spread;
}

/** Milliseconds. */
export interface Spread {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Claims from a queue of 10,000 builds, by one process and then by two at once. */
export async function measureClaims(
  kind: DatabaseKind,
  { tenants, claims }: { readonly tenants: number; readonly claims: number },
): Promise<ClaimTimes[]> {
  const config = await kind.fresh();
  {
    await using database = await openBenchDatabase(config);
    const refs = await seedTenants(database, tenants);
    for (const { id } of refs) await seedWaiting(database, id, QUEUED / tenants);
  }
  await using first = await HelperProcess.start('./claimer.ts');
  await using second = await HelperProcess.start('./claimer.ts');
  const claimers = [first, second];
  for (const claimer of claimers) await claimer.call('open', config);
  // Statements are prepared and code is compiled when counting begins.
  for (const claimer of claimers) await claimer.call('claim', { name: 'warm', count: 50 });
  const results: ClaimTimes[] = [];
  for (const count of [1, 2]) {
    const lists = await Promise.all(
      claimers.slice(0, count).map((claimer, n) =>
        claimer.call<ClaimTime[]>('claim', {
          name: `host-${n}`,
          count: Math.ceil(claims / count),
        }),
      ),
    );
    const times = lists.flat();
    results.push({
      database: kind.title,
      tenants,
      claimers: count,
      claims: times.length,
      transaction: spreadOf(times.map(({ transaction }) => transaction)),
      call: spreadOf(times.map(({ call }) => call)),
    });
  }
  return results;
}

function spreadOf(times: readonly number[]): Spread {
  return { p50: percentile(times, 50), p99: percentile(times, 99), max: Math.max(...times) };
}
