import { readQueueGauges } from '../../builds/metrics/database-gauges.ts';
import { messageOf } from '../../core/errors.ts';
import type { Database } from '../../store/database.ts';
import { listExecutors } from '../../store/executors.ts';
import { readNow } from '../../store/read-now.ts';
import type { Config } from '../config.ts';
import { effectiveSettings } from '../validate-config.ts';
import { builderdVersion } from '../version.ts';
import { askRole } from './role-socket.ts';
import type { RoleContext } from './running-role.ts';

/** What every role can tell about itself, without secrets. */
export async function commonStatus(
  context: RoleContext,
  config: Config,
): Promise<Readonly<Record<string, unknown>>> {
  const { startedAt, errors, role } = context;
  return {
    role,
    version: builderdVersion(),
    node: process.version,
    pid: process.pid,
    startedAt: new Date(startedAt).toISOString(),
    uptimeSeconds: Math.round((Date.now() - startedAt) / 1000),
    memoryBytes: process.memoryUsage.rss(),
    identity: { uid: process.getuid?.(), gid: process.getgid?.() },
    settings: Object.fromEntries(
      effectiveSettings(config, { values: {} })
        .filter(({ source }) => source !== 'default')
        .map(({ name, value }) => [name, value]),
    ),
    lastErrors: errors.list(),
  };
}

/** Whether it answers, what waits in it, and which executors it has heard of; or its fault. */
export async function databaseStatus(
  { settings }: Config,
  database: Database,
  call: { readonly signal: AbortSignal },
): Promise<Readonly<Record<string, unknown>>> {
  const type = settings.DATABASE_TYPE;
  try {
    const started = performance.now();
    await database.ping(call);
    const pingMs = Math.round(performance.now() - started);
    const now = await readNow(database);
    const executors = (await listExecutors(database)).map(
      ({ heartbeatAt, startedAt, ...executor }) => ({
        ...executor,
        startedAt: new Date(startedAt).toISOString(),
        silentSeconds: Math.round((now - heartbeatAt) / 1000),
      }),
    );
    return { type, pingMs, queue: await readQueueGauges(database), executors };
  } catch (reason) {
    return { type, fault: messageOf(reason) };
  }
}

/** The other role of this host, or why it does not tell. */
export async function statusOfOther(
  socket: string,
  call: { readonly signal: AbortSignal },
): Promise<unknown> {
  try {
    const { body } = await askRole(socket, '/status', call);
    return JSON.parse(body);
  } catch (reason) {
    return { unavailable: messageOf(reason) };
  }
}
