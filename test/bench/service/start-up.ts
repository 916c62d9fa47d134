import { readdirSync } from 'node:fs';
import { chmod, mkdtempDisposable } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startPrivateContainerd } from '../../../contrib/dev/private-containerd.ts';
import type { DatabaseConfig } from '../../../src/store/database.ts';
import { RunningService } from '../../fixtures/running-service.ts';
import { parentOf, pssBytesOf } from '../procfs.ts';
import { summarise } from '../statistics.ts';
import { type DatabaseKind, databaseSettings, openBenchDatabase } from './bench-database.ts';
import { seedCompleted, seedTenants, seedWaiting } from './seed.ts';

const TENANTS = 100;
const BUILDS = 100_000;
/** Of each tenant's builds. */
const WAITING = 10;
const IDLE_MS = 10_000;
const LOOK_MS = 5;
const LIMIT_MS = 60_000;

export interface StartUp {
  readonly database: string;
  readonly builds: number;
  /** Median of the starts, from the spawn. */
  readonly healthyMs: number;
  /** `/health/ready`: an executor is there and its containerd answers. */
  readonly readyMs: number;
  readonly starts: number;
  readonly idle: readonly { readonly process: string; readonly pssBytes: number }[];
}

/** `builderd serve`, whole, on a full database and a real containerd. */
export async function measureStartUp(
  kind: DatabaseKind,
  { dir, starts }: { readonly dir: string; readonly starts: number },
): Promise<StartUp> {
  await using containerd = await startPrivateContainerd({ dir: join(dir, `ctd-${kind.name}`) });
  const config = await kind.fresh();
  await using store = await mkdtempDisposable(join(tmpdir(), 'bd-store-'));
  await chmod(store.path, 0o711);
  // The service user passes through to its own directory.
  await chmod(dir, 0o711);
  const settings = {
    ...databaseSettings(config),
    DATABASE_DATA_DIR: join(dir, `start-up-${kind.name}`),
    // One for all starts: a database that names artifacts refuses an empty store.
    ROOTFS_OUTPUT_DIR: join(store.path, 'rootfs'),
    CONTAINERD_ADDRESS: containerd.address,
  };
  // The first start makes the directories and compiles; it is not counted.
  await startOnce(settings, async () => undefined);
  await seed(
    config.type === 'sqlite' ? { type: 'sqlite', directory: settings.DATABASE_DATA_DIR } : config,
  );
  const healthy: number[] = [];
  const ready: number[] = [];
  let idle: StartUp['idle'] = [];
  for (let n = 1; n <= starts; n += 1) {
    const times = await startOnce(settings, async (service) => {
      if (n < starts) return;
      await sleep(IDLE_MS);
      idle = processesOf(service);
    });
    healthy.push(times.healthyMs);
    ready.push(times.readyMs);
  }
  return {
    database: kind.title,
    builds: BUILDS,
    healthyMs: summarise(healthy)?.median ?? Number.NaN,
    readyMs: summarise(ready)?.median ?? Number.NaN,
    starts,
    idle,
  };
}

async function seed(config: DatabaseConfig): Promise<void> {
  await using database = await openBenchDatabase(config);
  const tenants = await seedTenants(database, TENANTS);
  for (const { id } of tenants) await seedCompleted(database, id, BUILDS / TENANTS - WAITING);
  for (const { id } of tenants) await seedWaiting(database, id, WAITING);
  // An idle service builds nothing: an idle host would take any build that is due.
  await database.k
    .updateTable('builds')
    .set({ not_before: Date.UTC(2100, 0) })
    .where('state', '=', 'pending')
    .execute();
}

async function startOnce(
  settings: Readonly<Record<string, string>>,
  whenReady: (service: RunningService) => Promise<void>,
): Promise<{ readonly healthyMs: number; readonly readyMs: number }> {
  const port = await freePort();
  const startedAt = performance.now();
  await using service = await RunningService.launch({
    settings: { ...settings, PORT: String(port) },
  });
  const healthyMs = (await untilAnswers(service, port, '/health')) - startedAt;
  const readyMs = (await untilAnswers(service, port, '/health/ready')) - startedAt;
  await whenReady(service);
  return { healthyMs, readyMs };
}

/** The time at which it answered 200. */
async function untilAnswers(service: RunningService, port: number, path: string): Promise<number> {
  const deadline = performance.now() + LIMIT_MS;
  for (;;) {
    try {
      const { status, body } = await fetch(`http://127.0.0.1:${port}${path}`);
      await body?.cancel();
      if (status === 200) return performance.now();
    } catch (reason) {
      // Nobody listens yet.
      if (!(reason instanceof TypeError)) throw reason;
    }
    if (performance.now() > deadline) {
      throw new Error(`${path} did not answer 200:\n${service.output}\n${service.stderr}`);
    }
    await sleep(LOOK_MS);
  }
}

/** The supervisor and everything below it. */
function processesOf(service: RunningService): StartUp['idle'] {
  const roles = new Map([
    [service.pid, 'supervisor'],
    [service.rolePid('api'), 'api'],
    [service.rolePid('executor'), 'executor'],
  ]);
  const found = new Set([service.pid]);
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  for (let before = 0; before < found.size; ) {
    before = found.size;
    for (const pid of all) if (found.has(parentOf(pid) ?? 0)) found.add(pid);
  }
  return [...found].map((pid) => ({
    process: roles.get(pid) ?? 'other',
    pssBytes: pssBytesOf(pid),
  }));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('Cannot find a free port');
  return address.port;
}
