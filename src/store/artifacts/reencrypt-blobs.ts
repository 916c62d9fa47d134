import type { TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { Database, Db } from '../database.ts';
import type { ArtifactStore } from './artifact-store.ts';
import { type BlobRecord, holdStorage, parseBlobRow, replaceCopy } from './blob-rows.ts';
import { condemn } from './condemned-rows.ts';
import type { TenantKeys } from './tenant-keys.ts';

const PAGE = 100;

export interface Reencrypted {
  readonly blobs: number;
  readonly bytes: number;
  /** Damaged copies, which were left as they are. */
  readonly skipped: number;
}

/**
 * Second half of a rotation: stores again what is not under the tenant's current key, plain copies
 * included. Old copies go a grace period later; downloads of them run on. May stop and run again.
 */
export async function reencryptBlobs(
  database: Database,
  store: ArtifactStore,
  {
    tenantId,
    keys,
    signal,
  }: { readonly tenantId: TenantId; readonly keys: TenantKeys; readonly signal: AbortSignal },
): Promise<Reencrypted> {
  const key = await keys.current(tenantId, { signal });
  const done = { blobs: 0, bytes: 0, skipped: 0 };
  let after = '';
  for (;;) {
    const page = await blobsNotUnder(database, tenantId, key.id, after);
    for (const blob of page) {
      throwIfAborted(signal, 'encrypt artifacts again');
      after = blob.digest;
      if (blob.state !== 'present') {
        done.skipped += 1;
        continue;
      }
      const copy = await store.recode(tenantId, blob, { encrypt: true, signal });
      const isTaken = await database.transaction(
        async (tx) => {
          await holdStorage(tx, tenantId);
          if (await replaceCopy(tx, blob, copy, 'replaced')) return true;
          // Released or replaced meanwhile: then the new copy is the one too many.
          await condemn(tx, tenantId, copy, 'replaced');
          return false;
        },
        { signal },
      );
      if (!isTaken) continue;
      done.blobs += 1;
      done.bytes += blob.sizeBytes;
    }
    if (page.length < PAGE) return done;
  }
}

async function blobsNotUnder(
  db: Db,
  tenantId: TenantId,
  keyId: string,
  after: string,
): Promise<readonly BlobRecord[]> {
  const rows = await db.k
    .selectFrom('blobs')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .where('digest', '>', after)
    .where((eb) => eb.or([eb('data_key_id', 'is', null), eb('data_key_id', '<>', keyId)]))
    .orderBy('digest')
    .limit(PAGE)
    .execute();
  return rows.map((row) => parseBlobRow({ ...row }));
}
