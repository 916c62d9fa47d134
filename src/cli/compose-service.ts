import {
  readQueueGauges,
  readStoredBytes,
  readTenantGauges,
} from '../builds/metrics/database-gauges.ts';
import type { Metrics } from '../builds/metrics/metrics.ts';
import type { Log } from '../core/log.ts';
import type { Database } from '../store/database.ts';
import { openDatabase } from '../store/open-database.ts';
import { holdServiceLock } from '../store/service-lock.ts';
import type { MasterKeySource } from '../store/secrets/load-master-keys.ts';
import { openSealedSecrets } from '../store/secrets/open-sealed-secrets.ts';
import type { SealedSecrets } from '../store/secrets/sealed-secrets.ts';
import type { Config } from './config.ts';
import { databaseConfig } from './database-config.ts';
import { metricsAddress } from './serve/check-settings.ts';
import { serveMetrics } from './serve/metrics-server.ts';
import { RoleMetrics } from './serve/role-metrics.ts';
import { type RoleName } from './serve/role-protocol.ts';
import { roleSocket, serveRoleFacts } from './serve/role-socket.ts';
import type { RoleContext } from './serve/running-role.ts';

/** What both roles stand on. */
export interface ServiceBase extends AsyncDisposable {
  readonly database: Database;
  readonly secrets: SealedSecrets;
}

/** Keys and the database: opened while the process may still read what is only root's. */
export async function openServiceBase(context: RoleContext): Promise<ServiceBase> {
  const { config, log, signal } = context;
  await using open = new AsyncDisposableStack();
  const where = databaseConfig(config);
  const database = open.use(await openDatabase(where, { signal, log }));
  // The directory was looked at by then. One service works on an SQLite file, not two.
  if (where.type === 'sqlite') open.use(await holdServiceLock(where.directory, context.role));
  const { secrets, madeFile, resealed } = await openSealedSecrets(
    database,
    masterKeySource(config),
    { signal },
  );
  if (madeFile !== undefined) {
    log.warn(
      { address: madeFile },
      'Made a master key: keep a copy of this file, apart from the database',
    );
  }
  if (resealed !== undefined) {
    log.info({ count: resealed.resealed }, 'Sealed all secrets anew under the newest master key');
    if (resealed.unreadable > 0) {
      log.error(
        { count: resealed.unreadable },
        'Secrets that no master key opens were left as they are',
      );
    }
  }
  const owned = open.move();
  return {
    database,
    secrets,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export function masterKeySource({ settings, searchPath }: Config): MasterKeySource {
  const { MASTER_KEY: value, MASTER_KEY_FILE: file, MASTER_KEY_COMMAND: command } = settings;
  return {
    dataDirectory: settings.DATABASE_DATA_DIR,
    commandEnv: { PATH: searchPath },
    ...(value === '' ? {} : { value }),
    ...(file === '' ? {} : { file }),
    ...(command === '' ? {} : { command }),
  };
}

interface WatchOptions {
  readonly log: Log;
  readonly maxTenants: number;
  /** Also what is the same for all processes: one role of a host shows it. */
  readonly all: boolean;
}

const SLOW_PING_MS = 1000;

/** Whether the database answers, and what it knows of queue, tenants and storage. */
export function watchDatabase(
  metrics: Metrics,
  database: Database,
  { log, maxTenants, all }: WatchOptions,
): void {
  metrics.addCollector('database', async (signal) => {
    metrics.setDatabaseUp(false);
    const started = performance.now();
    await database.ping({ signal });
    metrics.setDatabaseUp(true);
    const durationMs = Math.round(performance.now() - started);
    if (durationMs > SLOW_PING_MS) log.warn({ durationMs }, 'The database is slow');
  });
  if (!all) return;
  metrics.addCollector('queue', async () => metrics.setQueue(await readQueueGauges(database)));
  metrics.addCollector('tenants', async () =>
    metrics.setTenants(await readTenantGauges(database, { limit: maxTenants })),
  );
  metrics.addCollector('storage', async () =>
    metrics.setStoredBytes(await readStoredBytes(database)),
  );
}

export interface Shown {
  readonly role: RoleName;
  /** Also serve Prometheus: one process of a host does. */
  readonly withServer: boolean;
  readonly status: (signal: AbortSignal) => Promise<Readonly<Record<string, unknown>>>;
}

/** The socket for the other role of this host, and Prometheus's port. */
export async function showRole(context: RoleContext, shown: Shown): Promise<AsyncDisposable> {
  const { config, metrics, log, identity } = context;
  const { settings, given } = config;
  const other = shown.role === 'api' ? 'executor' : 'api';
  const text = new RoleMetrics(
    metrics,
    context.alone ? undefined : { role: other, socket: roleSocket(settings.RUN_DIR, other) },
  );
  const open = new AsyncDisposableStack();
  try {
    // Only the executor is asked: the api, which has no right to make a socket there, asks.
    if (shown.role === 'executor') {
      open.use(
        await serveRoleFacts(
          roleSocket(settings.RUN_DIR, shown.role),
          {
            process: context.process,
            metrics: () => text.json(),
            status: async (signal) => JSON.stringify(await shown.status(signal)),
          },
          identity === undefined ? {} : { gid: identity.gid },
        ),
      );
    }
    if (shown.withServer && settings.OTEL_PROMETHEUS_ENABLED) {
      const { host, port } = metricsAddress(settings, given);
      const server = await serveMetrics({
        host,
        port,
        render: () => text.render(),
        onFault: (reason) => log.error({ err: reason }, 'Cannot show the metrics'),
      });
      open.use(server);
      log.info({ address: `${host}:${server.port}` }, 'Serving metrics');
    }
    return open;
  } catch (reason) {
    await open.disposeAsync();
    throw reason;
  }
}
