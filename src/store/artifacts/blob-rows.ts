import { type Digest, parseDigest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import { parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import {
  readInteger,
  readOneOf,
  readOptionalInteger,
  readOptionalText,
  readText,
} from '../row-values.ts';
import type { StoredBlob } from './artifact-store.ts';
import type { BlobIndex } from './blob-index.ts';
import { condemn, pardon } from './condemned-rows.ts';
import { parseGeneration } from './stored-name.ts';

/** `missing` and `corrupt` were found by a check: nobody may open them, a new build heals them. */
export const BLOB_STATES = ['present', 'missing', 'corrupt'] as const;
export type BlobState = (typeof BLOB_STATES)[number];

export interface BlobRecord extends StoredBlob {
  readonly tenantId: TenantId;
  readonly state: BlobState;
  readonly createdAt: number;
  /** When all its bytes were last read and found right. */
  readonly verifiedAt?: number;
}

/** A row of `blobs`; throws `internal` for one that builderd cannot have written. */
export function parseBlobRow(row: { readonly [column: string]: unknown }): BlobRecord {
  const dataKeyId = readOptionalText(row['data_key_id'], 'blobs.data_key_id');
  const verifiedAt = readOptionalInteger(row['verified_at'], 'blobs.verified_at');
  return {
    tenantId: parseTenantId(readText(row['tenant_id'], 'blobs.tenant_id')),
    digest: parseDigest(row['digest'], 'blobs.digest'),
    sizeBytes: readInteger(row['size_bytes'], 'blobs.size_bytes'),
    storedBytes: readInteger(row['stored_bytes'], 'blobs.stored_bytes'),
    generation: parseGeneration(readText(row['generation'], 'blobs.generation')),
    state: readOneOf(BLOB_STATES, row['state'], 'blobs.state'),
    createdAt: readInteger(row['created_at'], 'blobs.created_at'),
    ...(dataKeyId === undefined ? {} : { dataKeyId }),
    ...(verifiedAt === undefined ? {} : { verifiedAt }),
  };
}

export async function findBlob(
  db: Db,
  tenantId: TenantId,
  digest: Digest,
): Promise<BlobRecord | undefined> {
  const row = await db.k
    .selectFrom('blobs')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .where('digest', '=', digest)
    .executeTakeFirst();
  return row === undefined ? undefined : parseBlobRow({ ...row });
}

/** The copy to open for an artifact of a tenant. Throws `artifact.missing`, `artifact.corrupt`. */
export async function requireBlob(db: Db, tenantId: TenantId, digest: Digest): Promise<BlobRecord> {
  const blob = await findBlob(db, tenantId, digest);
  if (blob === undefined || blob.state === 'missing') {
    throw new BuilderdError('artifact.missing', 'Cannot open the artifact: its bytes are gone');
  }
  if (blob.state === 'corrupt') {
    throw new BuilderdError('artifact.corrupt', 'Cannot open the artifact: its bytes are damaged');
  }
  return blob;
}

export function blobIndex(db: Db): BlobIndex {
  return {
    async hasSize(tenantId, sizeBytes) {
      const row = await db.k
        .selectFrom('blobs')
        .select('digest')
        .where('tenant_id', '=', tenantId)
        .where('size_bytes', '=', sizeBytes)
        .limit(1)
        .executeTakeFirst();
      return row !== undefined;
    },
    async findPresent(tenantId, digest) {
      const blob = await findBlob(db, tenantId, digest);
      return blob?.state === 'present' ? blob : undefined;
    },
  };
}

/**
 * Makes a committed copy the tenant's copy of these bytes, and counts them once. The newest copy
 * wins, because its bytes were read a moment ago: the old one may be gone or damaged without anyone
 * knowing yet. The loser is condemned. Only inside a transaction, after `holdStorage`. A repeat
 * changes nothing.
 */
export async function insertBlob(tx: Db, tenantId: TenantId, blob: StoredBlob): Promise<void> {
  const old = await findBlob(tx, tenantId, blob.digest);
  if (old === undefined) {
    await tx.k
      .insertInto('blobs')
      .values({
        tenant_id: tenantId,
        digest: blob.digest,
        size_bytes: blob.sizeBytes,
        created_at: tx.now,
        ...copyColumns(tx, blob),
      })
      .execute();
    await addStorage(tx, tenantId, blob.sizeBytes);
    await pardon(tx, tenantId, blob);
    return;
  }
  if (old.generation === blob.generation && old.state === 'present') {
    await pardon(tx, tenantId, blob);
    return;
  }
  await replaceCopy(tx, old, blob, 'released');
}

/** Only while the row still names `old`; false when it does not. */
export async function replaceCopy(
  tx: Db,
  old: BlobRecord,
  blob: StoredBlob,
  /** What the old copy is from now on: nobody is charged for what an operator replaces. */
  becomes: 'released' | 'replaced',
): Promise<boolean> {
  const changed = await tx.k
    .updateTable('blobs')
    .set(copyColumns(tx, blob))
    .where('tenant_id', '=', old.tenantId)
    .where('digest', '=', old.digest)
    .where('generation', '=', old.generation)
    .executeTakeFirst();
  const isOurs = Number(changed.numUpdatedRows) === 1;
  if (isOurs) await pardon(tx, old.tenantId, blob);
  if (isOurs && old.generation !== blob.generation) {
    await condemn(tx, old.tenantId, old, becomes);
  }
  return isOurs;
}

function copyColumns(tx: Db, blob: StoredBlob) {
  return {
    stored_bytes: blob.storedBytes,
    generation: blob.generation,
    data_key_id: blob.dataKeyId ?? null,
    state: 'present',
    // The store has just read every byte of it.
    verified_at: tx.now,
  } as const;
}

/** What a check found. Only while the row still names the copy that was checked. */
export async function noteBlobState(db: Db, blob: BlobRecord, state: BlobState): Promise<boolean> {
  const changed = await db.k
    .updateTable('blobs')
    .set(state === 'present' ? { state, verified_at: db.now } : { state })
    .where('tenant_id', '=', blob.tenantId)
    .where('digest', '=', blob.digest)
    .where('generation', '=', blob.generation)
    .executeTakeFirst();
  return Number(changed.numUpdatedRows) === 1;
}

/**
 * Makes other changes of this tenant's blobs wait until the transaction ends: whether a blob is
 * still referenced is only known when nobody adds a reference meanwhile. First thing in every
 * transaction that adds or releases artifacts. Throws `internal` when there is no such tenant.
 */
export async function holdStorage(tx: Db, tenantId: TenantId): Promise<void> {
  await addStorage(tx, tenantId, 0);
}

export async function addStorage(tx: Db, tenantId: TenantId, bytes: number): Promise<void> {
  const changed = await tx.k
    .updateTable('tenants')
    .set((eb) => ({ storage_bytes: eb('storage_bytes', '+', bytes) }))
    .where('id', '=', tenantId)
    .executeTakeFirst();
  if (Number(changed.numUpdatedRows) === 1) return;
  throw new BuilderdError('internal', 'Cannot count stored bytes: the tenant does not exist');
}
