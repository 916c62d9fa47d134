import { sql } from 'kysely';
import {
  type BuildId,
  newBuildId,
  newId,
  parseTenantName,
  type TenantId,
} from '../../../src/core/ids.ts';
import { parseDigest } from '../../../src/core/digest.ts';
import type {
  BuildMetrics,
  ImageFacts,
  IsolationFacts,
} from '../../../src/builds/service/views.ts';
import type { TenantRef } from '../../../src/builds/service/caller.ts';
import { freshGeneration } from '../../../src/store/artifacts/stored-name.ts';
import { insertBuild } from '../../../src/store/builds/insert-build.ts';
import { insertArtifacts } from '../../../src/store/artifacts/artifact-rows.ts';
import type { Database, Db } from '../../../src/store/database.ts';
import { claimBuild } from '../../../src/store/queue/claim-build.ts';
import type { Fenced } from '../../../src/store/queue/claim.ts';
import { completeBuild } from '../../../src/store/queue/complete-build.ts';
import { enterState } from '../../../src/store/queue/enter-state.ts';
import { ensureTenant } from '../../../src/store/tenants/ensure-tenant.ts';
import { inTime } from './bench-database.ts';

/** Where the rows of a build are, and the column that names it there. */
const TABLES = [
  { table: 'builds', id: 'id' },
  { table: 'attempts', id: 'build_id' },
  { table: 'steps', id: 'build_id' },
  { table: 'build_artifacts', id: 'build_id' },
] as const;

const DIGEST = `sha256:${'a'.repeat(64)}`;
const IMAGE: ImageFacts = {
  originalImage: 'docker.io/library/debian:12',
  imageDigest: DIGEST,
  layers: Array.from({ length: 5 }, () => DIGEST),
  labels: { 'org.opencontainers.image.title': 'debian' },
  command: ['bash'],
  entrypoint: [],
  workingDir: '/',
  env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
  exposedPorts: ['8080/tcp'],
  user: '',
  volumes: [],
};
const METRICS: BuildMetrics = {
  pullDurationMs: 1000,
  extractDurationMs: 1000,
  buildDurationMs: 1000,
  optimizeDurationMs: 1000,
  totalDurationMs: 4000,
  originalSizeBytes: 60_000_000,
  rootfsSizeBytes: 170_000_000,
  compressionRatio: 35.3,
  memoryPeakBytes: 100_000_000,
  diskUsageBytes: 170_000_000,
  cpuCoresUsed: 1.5,
  cpuUs: 6_000_000,
  pulledBytes: 60_000_000,
};
const ISOLATION: IsolationFacts = {
  sandboxId: 'b-1',
  networkNamespace: 'net:[4026531840]',
  filesystemNamespace: 'mnt:[4026531841]',
  securityContexts: ['no_new_privs'],
  cgroupPath: '',
};
const ARTIFACTS = ['rootfs.ext4', 'metadata.json', 'fidelity.json', 'build.log'];

/** Tenants `t1`, `t2` … whom no quota stops. */
export async function seedTenants(database: Database, count: number): Promise<TenantRef[]> {
  return await database.transaction(
    async (tx) => {
      const tenants: TenantRef[] = [];
      for (let n = 1; n <= count; n += 1) {
        const { tenant } = await ensureTenant(tx, {
          name: parseTenantName(`t${n}`),
          tier: 'dedicated',
          overrides: {
            maxConcurrentBuilds: 10_000,
            maxQueuedBuilds: 1_000_000,
            maxDailyBuilds: 10_000_000,
            requestsPerMinute: 10_000_000,
            requestBurst: 1_000_000,
          },
        });
        tenants.push({ id: tenant.id, name: tenant.name });
      }
      return tenants;
    },
    { signal: inTime() },
  );
}

/** Builds that wait, in the order of their ids. */
export async function seedWaiting(
  database: Database,
  tenant: TenantId,
  count: number,
  { memoryBytes = 1 }: { readonly memoryBytes?: number } = {},
): Promise<readonly BuildId[]> {
  const first = await addBuild(database, tenant, memoryBytes);
  return [first, ...(await copyBuild(database, first, count - 1))];
}

/** Builds with steps and artifacts. Nothing may wait in the database: the next claim must be ours. */
export async function seedCompleted(
  database: Database,
  tenant: TenantId,
  count: number,
): Promise<readonly BuildId[]> {
  const first = await addBuild(database, tenant, 1);
  const fenced = await claimNext(database);
  if (fenced.buildId !== first) {
    throw new Error('Cannot seed completed builds: another one waits');
  }
  const artifacts = ARTIFACTS.map((name, n) => ({
    name,
    format: name.split('.').at(-1) ?? '',
    mediaType: 'application/octet-stream',
    blob: {
      digest: parseDigest(`sha256:${String(n).repeat(64)}`, 'digest of a seed'),
      sizeBytes: 1000,
      storedBytes: 1000,
      generation: freshGeneration(),
    },
  }));
  await database.transaction(
    async (tx) => {
      for (const state of ['extracting', 'building', 'optimizing'] as const) {
        await enterState(tx, fenced, { state, step: state, progress: 50 });
      }
      await insertArtifacts(tx, { tenantId: tenant, buildId: first, artifacts });
      await completeBuild(tx, fenced, {
        image: IMAGE,
        metrics: METRICS,
        isolation: ISOLATION,
        sourceReference: IMAGE.originalImage,
        sourceDigest: DIGEST,
        writtenBytes: 170_000_000,
      });
    },
    { signal: inTime() },
  );
  return [first, ...(await copyBuild(database, first, count - 1))];
}

/** For so long that no benchmark ends before. */
const LEASE_MS = 3_600_000;

/** Takes the build that is due, as an executor with all the room in the world. */
export async function claimNext(database: Database): Promise<Fenced> {
  const owner = newId();
  const claim = await claimBuild(database, {
    owner,
    host: 'bench',
    leaseMs: LEASE_MS,
    slots: { count: 1000 },
    maxConcurrent: 1000,
    freeMemoryBytes: Number.MAX_SAFE_INTEGER,
    freeDiskBytes: Number.MAX_SAFE_INTEGER,
    signal: inTime(),
  });
  if (claim === undefined) throw new Error('Nothing could be claimed');
  return { buildId: claim.buildId, attempt: claim.attempt, owner };
}

async function addBuild(
  database: Database,
  tenantId: TenantId,
  memoryBytes: number,
): Promise<BuildId> {
  const id = newBuildId();
  await database.transaction(
    (tx) =>
      insertBuild(tx, {
        id,
        tenantId,
        name: '',
        labels: {},
        priority: 0,
        requestJson: '{"source":{"image":{"reference":"debian:12"}}}',
        wireConfig: undefined,
        traceParent: undefined,
        createdBy: 'bench',
        timeoutMs: LEASE_MS,
        memoryBytes,
        diskBytes: 1,
        sealedSecrets: undefined,
      }),
    { signal: inTime() },
  );
  return id;
}

/** The rows of one build once more under new ids, in one statement for each table. */
async function copyBuild(
  database: Database,
  original: BuildId,
  count: number,
): Promise<readonly BuildId[]> {
  const ids = Array.from({ length: count }, () => newBuildId()).toSorted();
  await database.transaction(
    async (tx) => {
      for (const place of TABLES) await copyRows(tx, place, original, ids);
    },
    { signal: inTime() },
  );
  return ids;
}

async function copyRows(
  tx: Db,
  { table, id }: (typeof TABLES)[number],
  original: BuildId,
  ids: readonly BuildId[],
): Promise<void> {
  const source = sql.table(table);
  const { rows } = await sql<object>`
    select * from ${source} where ${sql.ref(id)} = ${original} limit 1`.execute(tx.k);
  const [row] = rows;
  if (row === undefined) return;
  const columns = Object.keys(row).filter((column) => column !== id);
  const list = sql.join(columns.map((column) => sql.ref(column)));
  const json = JSON.stringify(ids);
  const fresh =
    tx.dialect === 'sqlite'
      ? sql`json_each(${json}) as fresh`
      : sql`jsonb_array_elements_text(${json}::jsonb) as fresh(value)`;
  await sql`
    insert into ${source} (${sql.ref(id)}, ${list})
    select fresh.value, ${list} from ${fresh} cross join ${source}
    where ${source}.${sql.ref(id)} = ${original}`.execute(tx.k);
}
