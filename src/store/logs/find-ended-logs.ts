import { type BuildId, parseBuildId, parseTenantId, type TenantId } from '../../core/ids.ts';
import type { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { parseEach } from '../parse-each.ts';
import { readInteger, readText } from '../row-values.ts';

/** A build that ended without artifacts, and whose log is still in the database. */
export interface EndedLog {
  readonly buildId: BuildId;
  readonly tenantId: TenantId;
  /** The last one. */
  readonly attempt: number;
}

export interface EndedLogs {
  readonly logs: readonly EndedLog[];
  /** Passed over: their rows are not what builderd writes. */
  readonly unreadable: readonly { readonly buildId: string; readonly reason: BuilderdError }[];
  /** What the next page begins after; empty at the end. */
  readonly next: string;
}

/** By id, from the one after `after` on. */
export async function findEndedLogs(
  db: Db,
  { after, limit }: { readonly after: string; readonly limit: number },
): Promise<EndedLogs> {
  const rows = await db.k
    .selectFrom('builds')
    .select(['id', 'tenant_id', 'attempt'])
    .where('id', '>', after)
    .where('state', 'in', ['failed', 'cancelled'])
    .where('deleted_at', 'is', null)
    .where((eb) =>
      eb.exists(
        eb
          .selectFrom('log_segments')
          .select('log_segments.build_id')
          .whereRef('log_segments.build_id', '=', 'builds.id'),
      ),
    )
    .orderBy('id')
    .limit(limit)
    .execute();
  const { parsed, unreadable } = parseEach(rows, (row) => ({
    buildId: parseBuildId(readText(row.id, 'builds.id')),
    tenantId: parseTenantId(readText(row.tenant_id, 'builds.tenant_id')),
    attempt: readInteger(row.attempt, 'builds.attempt'),
  }));
  return {
    logs: parsed,
    unreadable: unreadable.map(({ row, reason }) => ({ buildId: row.id, reason })),
    next: rows.length < limit ? '' : (rows.at(-1)?.id ?? ''),
  };
}

/**
 * Locks a build whose log may be moved: it has ended, is not deleted, and its log is here. False
 * when that changed since it was found.
 */
export async function holdEndedLog(tx: Db, { buildId }: EndedLog): Promise<boolean> {
  const query = tx.k
    .selectFrom('builds')
    .select('id')
    .where('id', '=', buildId)
    .where('state', 'in', ['failed', 'cancelled'])
    .where('deleted_at', 'is', null);
  // SQLite's transactions are alone from their first statement on.
  const row = await (tx.dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst();
  if (row === undefined) return false;
  const segment = await tx.k
    .selectFrom('log_segments')
    .select('first_entry')
    .where('build_id', '=', buildId)
    .limit(1)
    .executeTakeFirst();
  return segment !== undefined;
}
