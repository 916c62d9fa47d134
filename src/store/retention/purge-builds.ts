import type { BuilderdError } from '../../core/errors.ts';
import { type BuildId, parseBuildId, parseTenantId, type TenantId } from '../../core/ids.ts';
import { releaseArtifacts } from '../artifacts/artifact-rows.ts';
import type { Db } from '../database.ts';
import { parseEach } from '../parse-each.ts';
import { readText } from '../row-values.ts';

const ENDED = ['completed', 'failed', 'cancelled'];

export interface PurgeableBuild {
  readonly id: BuildId;
  readonly tenantId: TenantId;
}

export interface DeletedBuilds {
  readonly builds: readonly PurgeableBuild[];
  /** Passed over: their rows are not what builderd writes. */
  readonly unreadable: readonly { readonly id: string; readonly reason: BuilderdError }[];
  /** What the next page begins after; absent at the end. */
  readonly next?: string;
}

/** Deleted builds that no executor works on any more, by id from the one after `after` on. */
export async function findDeleted(
  db: Db,
  { limit, after = '' }: { readonly limit: number; readonly after?: string },
): Promise<DeletedBuilds> {
  const rows = await db.k
    .selectFrom('builds')
    .select(['id', 'tenant_id'])
    .where('deleted_at', 'is not', null)
    .where('state', 'in', ENDED)
    .where('id', '>', after)
    .orderBy('id')
    .limit(limit)
    .execute();
  const { parsed, unreadable } = parseEach(rows, (row) => ({
    id: parseBuildId(readText(row.id, 'builds.id')),
    tenantId: parseTenantId(readText(row.tenant_id, 'builds.tenant_id')),
  }));
  const last = rows.length < limit ? undefined : rows.at(-1);
  return {
    builds: parsed,
    unreadable: unreadable.map(({ row, reason }) => ({ id: row.id, reason })),
    ...(last === undefined ? {} : { next: last.id }),
  };
}

/**
 * Removes all rows of a deleted build; its bytes are condemned unless another build has them.
 * Usage, audit and events stay: they tell that it was there. A repeat changes nothing.
 */
export async function purgeBuild(tx: Db, { id, tenantId }: PurgeableBuild): Promise<void> {
  // The build's row first, then the tenant's: the order in which everybody locks them.
  const { numDeletedRows } = await tx.k
    .deleteFrom('builds')
    .where('id', '=', id)
    .where('deleted_at', 'is not', null)
    .where('state', 'in', ENDED)
    .executeTakeFirst();
  if (numDeletedRows === 0n) return;
  for (const table of ['log_segments', 'steps', 'attempts', 'build_secrets'] as const) {
    await tx.k.deleteFrom(table).where('build_id', '=', id).execute();
  }
  await releaseArtifacts(tx, { tenantId, buildId: id });
}
