import { sql } from 'kysely';
import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger, readJson, readText } from '../row-values.ts';

/** What decides when the builds of a tenant that wait are taken, as it is now. */
export interface QueueFacts {
  readonly now: number;
  /** Builds of the tenant that an executor holds. */
  readonly running: number;
  /** By build: how many of the same tenant are taken before it. */
  readonly ahead: ReadonlyMap<string, number>;
  readonly executors: readonly ExecutorFacts[];
}

export interface ExecutorFacts {
  readonly host: string;
  readonly draining: boolean;
  readonly heartbeatAt: number;
  /** JSON that the executor wrote; the builds room parses it. */
  readonly capabilities: unknown;
  /** Builds that its host holds, of all tenants. */
  readonly running: number;
}

export async function readQueueFacts(
  db: Db,
  tenantId: TenantId,
  waiting: readonly BuildId[],
): Promise<QueueFacts> {
  const held = db.k.selectFrom('builds').where('owner', 'is not', null);
  const own = await held
    .select((eb) => [eb.fn.countAll().as('running'), db.now.as('now')])
    .where('tenant_id', '=', tenantId)
    .executeTakeFirstOrThrow();
  const byHost = await held
    .select((eb) => ['host', eb.fn.countAll().as('running')])
    .groupBy('host')
    .execute();
  const runningOn = new Map(byHost.map((row) => [row.host, readInteger(row.running, 'count')]));
  const executors = await db.k
    .selectFrom('executors')
    .select(['host', 'draining', 'heartbeat_at', 'capabilities'])
    .execute();
  return {
    now: readInteger(own.now, 'now'),
    running: readInteger(own.running, 'count'),
    ahead: await positions(db, tenantId, waiting),
    executors: executors.map((row) => ({
      host: readText(row.host, 'executors.host'),
      draining: readInteger(row.draining, 'executors.draining') !== 0,
      heartbeatAt: readInteger(row.heartbeat_at, 'executors.heartbeat_at'),
      capabilities: readJson(row.capabilities, 'executors.capabilities'),
      running: runningOn.get(row.host) ?? 0,
    })),
  };
}

async function positions(
  db: Db,
  tenantId: TenantId,
  waiting: readonly BuildId[],
): Promise<ReadonlyMap<string, number>> {
  if (waiting.length === 0) return new Map();
  const rows = await db.k
    .selectFrom((eb) =>
      eb
        .selectFrom('builds')
        .select(['id', sql`row_number() over (order by priority desc, id)`.as('place')])
        .where('tenant_id', '=', tenantId)
        .where('state', '=', sql.lit('pending'))
        .as('queue'),
    )
    .select(['id', 'place'])
    .where('id', 'in', [...waiting])
    .execute();
  return new Map(rows.map((row) => [row.id, readInteger(row.place, 'row_number') - 1]));
}
