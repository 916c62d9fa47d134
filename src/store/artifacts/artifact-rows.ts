import { type Digest, parseDigest } from '../../core/digest.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import type { StoredBlob } from './artifact-store.ts';
import { addStorage, findBlob, holdStorage, insertBlob } from './blob-rows.ts';
import { condemn } from './condemned-rows.ts';

/** One named result of a build, with the committed copy of its bytes. */
export interface NewArtifact {
  /** `rootfs.ext4`, `metadata.json`, `fidelity.json`, `build.log`. */
  readonly name: string;
  readonly format: string;
  readonly mediaType: string;
  readonly blob: StoredBlob;
}

/**
 * Names the artifacts of a build, in the transaction that completes it: before that nobody can see
 * them, after that they exist. Counts the bytes of each blob once for the tenant.
 */
export async function insertArtifacts(
  tx: Db,
  {
    tenantId,
    buildId,
    artifacts,
  }: {
    readonly tenantId: TenantId;
    readonly buildId: BuildId;
    readonly artifacts: readonly NewArtifact[];
  },
): Promise<void> {
  await holdStorage(tx, tenantId);
  for (const { name, format, mediaType, blob } of artifacts) {
    await insertBlob(tx, tenantId, blob);
    await tx.k
      .insertInto('build_artifacts')
      .values({
        build_id: buildId,
        tenant_id: tenantId,
        name,
        format,
        media_type: mediaType,
        digest: blob.digest,
        size_bytes: blob.sizeBytes,
        created_at: tx.now,
      })
      .execute();
  }
}

/**
 * Takes the artifacts of a deleted build away: at once from the tenant's view and account; the
 * bytes go a grace period later, when no other build of the tenant has them. Gives the bytes that
 * became free. A repeat changes nothing.
 */
export async function releaseArtifacts(
  tx: Db,
  { tenantId, buildId }: { readonly tenantId: TenantId; readonly buildId: BuildId },
): Promise<number> {
  await holdStorage(tx, tenantId);
  const rows = await tx.k
    .deleteFrom('build_artifacts')
    .where('build_id', '=', buildId)
    .where('tenant_id', '=', tenantId)
    .returning('digest')
    .execute();
  const digests = new Set(rows.map(({ digest }) => parseDigest(digest, 'build_artifacts.digest')));
  let freed = 0;
  for (const digest of digests) freed += await dropUnreferenced(tx, tenantId, digest);
  return freed;
}

/** Whether an artifact of any build of the tenant has these bytes. */
export async function isReferenced(db: Db, tenantId: TenantId, digest: Digest): Promise<boolean> {
  const row = await db.k
    .selectFrom('build_artifacts')
    .select('build_id')
    .where('tenant_id', '=', tenantId)
    .where('digest', '=', digest)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Only after `holdStorage`. Gives the bytes that became free: 0 when an artifact still has them. */
export async function dropUnreferenced(
  tx: Db,
  tenantId: TenantId,
  digest: Digest,
): Promise<number> {
  if (await isReferenced(tx, tenantId, digest)) return 0;
  const blob = await findBlob(tx, tenantId, digest);
  if (blob === undefined) return 0;
  await tx.k
    .deleteFrom('blobs')
    .where('tenant_id', '=', tenantId)
    .where('digest', '=', digest)
    .execute();
  await condemn(tx, tenantId, blob, 'released');
  await addStorage(tx, tenantId, -blob.sizeBytes);
  return blob.sizeBytes;
}
