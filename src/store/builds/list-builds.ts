import { type SqlBool, sql } from 'kysely';
import type { BuildState } from '../../core/build-state.ts';
import { type BuildId, parseBuildId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import type { BuildRow } from '../schema.ts';
import { type BuildRecord, parseBuildRow } from './build-record.ts';

export interface BuildFilter {
  /** Any of these; all states when empty. */
  readonly states: readonly BuildState[];
  /** Equal to all of these. */
  readonly labels: Readonly<Record<string, string>>;
}

/** What a list shows: all of a build but its image and a large configuration, which `findBuild` has. */
export interface ListedBuilds {
  readonly builds: readonly BuildRecord[];
  /** The last one of this page, when more follow. */
  readonly last: BuildId | undefined;
}

/** A list may be long before a client, and this process, would hold too much of it. */
const PAGE_BYTES = 1024 ** 2;
/** What one build takes beside the texts that its tenant chose. */
const FIXED_BYTES = 1024;
/** The configurations that clients send are much smaller. */
const LISTED_CONFIG_BYTES = 4096;

/**
 * Newest first, those made before the build `before`: `limit` of them, or fewer when these fill the
 * bytes of a page, and one at least.
 */
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
): Promise<ListedBuilds> {
  // One more than asked for tells whether there is a next page.
  const sizes = await visible(db, tenantId, filter)
    .select(['id', chosenBytes.as('bytes')])
    .$if(before !== undefined, (query) => query.where('id', '<', before ?? ''))
    .$if(period.from !== undefined, (query) => query.where('created_at', '>=', period.from ?? 0))
    .$if(period.to !== undefined, (query) => query.where('created_at', '<', period.to ?? 0))
    .orderBy('id', 'desc')
    .limit(limit + 1)
    .execute();
  const ids = fitting(sizes.slice(0, limit));
  if (ids.length === 0) return { builds: [], last: undefined };
  const rows = await visible(db, tenantId, filter)
    .select([...LISTED, listedConfig.as('wire_config')])
    .where('id', 'in', ids)
    .orderBy('id', 'desc')
    .execute();
  return {
    builds: rows.map((row) => parseBuildRow({ ...row, image: null })),
    last: ids.length < sizes.length ? ids.at(-1) : undefined,
  };
}

function fitting(sizes: readonly { readonly id: string; readonly bytes: unknown }[]): BuildId[] {
  const ids: BuildId[] = [];
  let left = PAGE_BYTES;
  for (const { id, bytes } of sizes) {
    left -= FIXED_BYTES + readInteger(bytes, 'octet_length');
    if (left < 0 && ids.length > 0) break;
    ids.push(parseBuildId(id));
  }
  return ids;
}

/** Length only: neither database reads the texts for it. */
const chosenBytes = sql`octet_length(labels) + octet_length(request)
  + case when octet_length(wire_config) <= ${sql.lit(LISTED_CONFIG_BYTES)}
      then octet_length(wire_config) else 0 end
  + coalesce(octet_length(error_message), 0)`;
const listedConfig = sql<string | null>`case
  when octet_length(wire_config) <= ${sql.lit(LISTED_CONFIG_BYTES)} then wire_config end`;

const LISTED = [
  'id',
  'tenant_id',
  'state',
  'priority',
  'name',
  'labels',
  'request',
  'created_at',
  'started_at',
  'finished_at',
  'not_before',
  'timeout_ms',
  'deadline_at',
  'attempt',
  'cancel_requested_at',
  'memory_bytes',
  'disk_bytes',
  'progress',
  'current_step',
  'error_code',
  'error_message',
  'source_reference',
  'source_digest',
  'metrics',
  'isolation',
  'log_entries',
  'version',
] as const satisfies readonly (keyof BuildRow)[];

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
