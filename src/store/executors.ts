import type { Db } from './database.ts';
import { readInteger, readJson, readText } from './row-values.ts';
import type { ExecutorRow } from './schema.ts';

export interface ExecutorPresence {
  /** Of one process: what its claims are made under. */
  readonly id: string;
  readonly host: string;
  readonly version: string;
  /** Takes no further builds. */
  readonly draining: boolean;
  /** JSON of what it can take; the builds room knows its shape. */
  readonly capabilities: object;
}

export interface ExecutorRecord {
  readonly id: string;
  readonly host: string;
  readonly version: string;
  readonly draining: boolean;
  readonly capabilities: unknown;
  readonly startedAt: number;
  readonly heartbeatAt: number;
}

/** Says that the executor is there, by the database's clock. Repeated for as long as it is. */
export async function registerExecutor(db: Db, presence: ExecutorPresence): Promise<void> {
  const { id, host, version } = presence;
  const draining = presence.draining ? 1 : 0;
  const capabilities = JSON.stringify(presence.capabilities);
  await db.k
    .insertInto('executors')
    .values({
      id,
      host,
      version,
      capabilities,
      draining,
      started_at: db.now,
      heartbeat_at: db.now,
    })
    .onConflict((conflict) =>
      conflict
        .column('id')
        .doUpdateSet({ host, version, capabilities, draining, heartbeat_at: db.now }),
    )
    .execute();
}

/** The executor has ended in order. A repeat changes nothing. */
export async function removeExecutor(db: Db, id: string): Promise<void> {
  await db.k.deleteFrom('executors').where('id', '=', id).execute();
}

/** Forgets executors that have not been heard of for so long; gives their number. */
export async function pruneExecutors(
  db: Db,
  { silentMs }: { readonly silentMs: number },
): Promise<number> {
  const { numDeletedRows } = await db.k
    .deleteFrom('executors')
    .where((eb) => eb('heartbeat_at', '<', eb(db.now, '-', silentMs)))
    .executeTakeFirst();
  return Number(numDeletedRows);
}

export async function listExecutors(db: Db): Promise<readonly ExecutorRecord[]> {
  const rows = await db.k.selectFrom('executors').selectAll().orderBy('id').execute();
  return rows.map(parseExecutorRow);
}

function parseExecutorRow(
  row: { readonly [column in keyof ExecutorRow]: unknown },
): ExecutorRecord {
  return {
    id: readText(row.id, 'executors.id'),
    host: readText(row.host, 'executors.host'),
    version: readText(row.version, 'executors.version'),
    draining: readInteger(row.draining, 'executors.draining') !== 0,
    capabilities: readJson(row.capabilities, 'executors.capabilities'),
    startedAt: readInteger(row.started_at, 'executors.started_at'),
    heartbeatAt: readInteger(row.heartbeat_at, 'executors.heartbeat_at'),
  };
}
