import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { type ArtifactRecord, parseArtifactRow } from './build-parts.ts';

/** One artifact of a build by its name; the name is only ever compared, never part of a path. */
export async function findArtifact(
  db: Db,
  tenantId: TenantId,
  buildId: BuildId,
  name: string,
): Promise<ArtifactRecord | undefined> {
  const row = await db.k
    .selectFrom('build_artifacts')
    .selectAll()
    .where('build_id', '=', buildId)
    .where('tenant_id', '=', tenantId)
    .where('name', '=', name)
    .executeTakeFirst();
  return row === undefined ? undefined : parseArtifactRow({ ...row });
}
