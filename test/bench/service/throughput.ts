import { join } from 'node:path';
import type { TenantRef } from '../../../src/builds/service/caller.ts';
import type { BuildId } from '../../../src/core/ids.ts';
import type { DatabaseConfig } from '../../../src/store/database.ts';
import { call, CALLER, IMAGE, serviceOn } from '../../fixtures/build-service.ts';
import { summarise } from '../statistics.ts';
import type { BareApi } from './bare-api.ts';
import { type DatabaseKind, databaseSettings, openBenchDatabase } from './bench-database.ts';
import { HelperProcess } from './helper-process.ts';
import type { Load, LoadResult } from './load.ts';
import { openRecording } from './recorded-sql.ts';
import { type Step, stepsOf } from './replay.ts';
import { seedCompleted, seedTenants } from './seed.ts';
import { serveApi } from './served.ts';

/** One connection each. */
const TENANTS = 16;
const BUILDS_EACH = 50;
/** Rounds in which both sides compile; they are not counted. */
const WARM_UP = 3;

export interface Throughput {
  readonly database: string;
  readonly route: 'create' | 'get';
  readonly ours: LoadResult;
  readonly bare: LoadResult;
}

interface Side {
  readonly name: 'ours' | 'bare';
  readonly url: string;
  readonly token: string;
  readonly seed: Seed;
}

/** The real API, as `builderd serve` runs it, against bare Fastify with the same SQL, in turns. */
export async function measureThroughput(
  kind: DatabaseKind,
  {
    dir,
    rounds,
    seconds,
  }: { readonly dir: string; readonly rounds: number; readonly seconds: number },
): Promise<Throughput[]> {
  const config = await kind.fresh();
  await using served = await serveApi(dir, { settings: databaseSettings(config) });
  const ourConfig: DatabaseConfig =
    config.type === 'sqlite'
      ? { type: 'sqlite', directory: join(served.service.dir, 'data') }
      : config;
  const bareConfig = await kind.fresh();
  await using bare = await HelperProcess.start('./bare-api.ts');
  await using load = await HelperProcess.start('./load.ts');
  const ourSeed = await seed(ourConfig);
  const bareSeed = await seed(bareConfig);
  const job: BareApi = {
    config: bareConfig,
    ...(await recordRoutes(bareConfig, bareSeed)),
    tenants: Object.fromEntries(bareSeed.tenants.map(({ id, name }) => [name, id])),
  };
  const sides: Side[] = [
    { name: 'ours', url: served.url, token: await served.service.operatorToken(), seed: ourSeed },
    { name: 'bare', url: await bare.call<string>('listen', job), token: 'none', seed: bareSeed },
  ];
  const results: Throughput[] = [];
  for (const route of ['create', 'get'] as const) {
    const seen = { ours: [] as LoadResult[], bare: [] as LoadResult[] };
    for (let round = -WARM_UP; round < rounds; round += 1) {
      for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
        const result = await load.call<LoadResult>('run', loadOf(side, route, seconds));
        if (round >= 0) seen[side.name].push(result);
      }
    }
    results.push({
      database: kind.title,
      route,
      ours: medianOf(seen.ours),
      bare: medianOf(seen.bare),
    });
  }
  return results;
}

interface Seed {
  readonly tenants: readonly TenantRef[];
  readonly builds: readonly (readonly BuildId[])[];
}

async function seed(config: DatabaseConfig): Promise<Seed> {
  await using database = await openBenchDatabase(config);
  const tenants = await seedTenants(database, TENANTS);
  const builds: (readonly BuildId[])[] = [];
  for (const { id } of tenants) builds.push(await seedCompleted(database, id, BUILDS_EACH));
  return { tenants, builds };
}

/** What the service itself asks of the database for these two requests. */
async function recordRoutes(
  config: DatabaseConfig,
  { tenants, builds }: Seed,
): Promise<{ readonly create: Step[]; readonly get: Step[] }> {
  const [tenant] = tenants;
  const id = builds[0]?.[0];
  if (tenant === undefined || id === undefined) throw new Error('Nothing was seeded');
  await using recording = await openRecording(config);
  await using harness = serviceOn(recording.database);
  recording.take();
  const { build } = await harness.service.create(CALLER, tenant, IMAGE, call());
  const create = stepsOf(recording.take(), { build: build.id, tenant });
  await harness.service.get(tenant, id, call());
  const get = stepsOf(recording.take(), { build: id, tenant });
  return { create, get };
}

function loadOf({ url, token, seed }: Side, route: 'create' | 'get', seconds: number): Load {
  const body = JSON.stringify(IMAGE);
  return {
    url,
    token,
    seconds,
    connections: seed.tenants.map(({ name }, n) => ({
      tenant: name,
      requests:
        route === 'create'
          ? [{ method: 'POST', path: '/v1/builds', body }]
          : (seed.builds[n] ?? []).map((id) => ({ method: 'GET', path: `/v1/builds/${id}` })),
    })),
  };
}

function medianOf(results: readonly LoadResult[]): LoadResult {
  const median = (pick: (result: LoadResult) => number): number =>
    summarise(results.map(pick))?.median ?? Number.NaN;
  return {
    perSecond: median(({ perSecond }) => perSecond),
    p50Ms: median(({ p50Ms }) => p50Ms),
    p99Ms: median(({ p99Ms }) => p99Ms),
  };
}
