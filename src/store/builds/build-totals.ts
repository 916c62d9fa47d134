import { sql } from 'kysely';
import type { TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';

export interface BuildTotals {
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
  /** Run time of all completed builds together. */
  readonly completedMs: number;
  /** Run time of all builds that ended, also of those that failed. */
  readonly ranMs: number;
  /** Sizes of their artifacts. */
  readonly artifactBytes: number;
}

/** Sums over the builds of a tenant that were made from `from` on and before `to`. */
export async function totalBuilds(
  db: Db,
  tenantId: TenantId,
  { from = 0, to = Number.MAX_SAFE_INTEGER }: { readonly from?: number; readonly to?: number },
): Promise<BuildTotals> {
  const ran = sql<number>`coalesce(finished_at - started_at, 0)`;
  const row = await db.k
    .selectFrom('builds')
    .select((eb) => [
      eb.fn.countAll().as('total'),
      sql`coalesce(sum(case when state = 'completed' then 1 else 0 end), 0)`.as('completed'),
      sql`coalesce(sum(case when state = 'failed' then 1 else 0 end), 0)`.as('failed'),
      sql`coalesce(sum(case when state = 'completed' then ${ran} else 0 end), 0)`.as(
        'completed_ms',
      ),
      sql`coalesce(sum(${ran}), 0)`.as('ran_ms'),
    ])
    .where('tenant_id', '=', tenantId)
    .where('deleted_at', 'is', null)
    .where('created_at', '>=', from)
    .where('created_at', '<', to)
    .executeTakeFirstOrThrow();
  const stored = await db.k
    .selectFrom('build_artifacts')
    .innerJoin('builds', 'builds.id', 'build_artifacts.build_id')
    .select(sql`coalesce(sum(build_artifacts.size_bytes), 0)`.as('bytes'))
    .where('builds.tenant_id', '=', tenantId)
    .where('builds.deleted_at', 'is', null)
    .where('builds.created_at', '>=', from)
    .where('builds.created_at', '<', to)
    .executeTakeFirstOrThrow();
  return {
    total: readInteger(row.total, 'count'),
    completed: readInteger(row.completed, 'sum'),
    failed: readInteger(row.failed, 'sum'),
    completedMs: readInteger(row.completed_ms, 'sum'),
    ranMs: readInteger(row.ran_ms, 'sum'),
    artifactBytes: readInteger(stored.bytes, 'sum'),
  };
}
