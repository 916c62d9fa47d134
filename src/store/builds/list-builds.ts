import { type SqlBool, sql } from 'kysely';
import type { BuildState } from '../../core/build-state.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import { type BuildRecord, parseBuildRow } from './build-record.ts';

export interface BuildFilter {
  /** Any of these; all states when empty. */
  readonly states: readonly BuildState[];
  /** Equal to all of these. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Newest first, those made before the build `before`. */
export async function listBuilds(
  db: Db,
  tenantId: TenantId,
  filter: BuildFilter,
  {
    before,
    limit,
    period = {},
  }: {
    readonly before?: BuildId | undefined;
    readonly limit: number;
    /** Made from `from` on and before `to`. */
    readonly period?: { readonly from?: number; readonly to?: number };
  },
): Promise<readonly BuildRecord[]> {
  const rows = await visible(db, tenantId, filter)
    .selectAll()
    .$if(before !== undefined, (query) => query.where('id', '<', before ?? ''))
    .$if(period.from !== undefined, (query) => query.where('created_at', '>=', period.from ?? 0))
    .$if(period.to !== undefined, (query) => query.where('created_at', '<', period.to ?? 0))
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
  return rows.map((row) => parseBuildRow({ ...row }));
}

export async function countBuilds(
  db: Db,
  tenantId: TenantId,
  filter: BuildFilter,
): Promise<number> {
  const { total } = await visible(db, tenantId, filter)
    .select((eb) => eb.fn.countAll().as('total'))
    .executeTakeFirstOrThrow();
  return readInteger(total, 'count');
}

const visible = (db: Db, tenantId: TenantId, { states, labels }: BuildFilter) =>
  db.k
    .selectFrom('builds')
    .where('tenant_id', '=', tenantId)
    .where('deleted_at', 'is', null)
    .$if(states.length > 0, (query) => query.where('state', 'in', [...states]))
    .where((eb) =>
      eb.and(
        Object.entries(labels).map(([key, value]) =>
          db.dialect === 'sqlite'
            ? sql<SqlBool>`json_extract(labels, ${sqlitePath(key)}) = ${value}`
            : sql<SqlBool>`labels::jsonb ->> ${key} = ${value}`,
        ),
      ),
    );

/** Keys of labels hold no quotes (BuildSpec), and the path is a bound value, not SQL. */
function sqlitePath(key: string): string {
  return `$."${key}"`;
}
