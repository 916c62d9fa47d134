import { type Digest, parseDigest } from '../../core/digest.ts';
import { parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger, readText } from '../row-values.ts';
import type { Generation, StoredBlob } from './artifact-store.ts';
import { parseGeneration } from './stored-name.ts';

/** A stored copy that no blob row names, and since when that is known. */
export interface CondemnedBlob {
  readonly tenantId: TenantId;
  readonly digest: Digest;
  readonly generation: Generation;
  readonly storedBytes: number;
  readonly condemnedAt: number;
}

type Copy = Pick<StoredBlob, 'digest' | 'generation'>;

export function parseCondemnedRow(row: { readonly [column: string]: unknown }): CondemnedBlob {
  return {
    tenantId: parseTenantId(readText(row['tenant_id'], 'condemned_blobs.tenant_id')),
    digest: parseDigest(row['digest'], 'condemned_blobs.digest'),
    generation: parseGeneration(readText(row['generation'], 'condemned_blobs.generation')),
    storedBytes: readInteger(row['stored_bytes'], 'condemned_blobs.stored_bytes'),
    condemnedAt: readInteger(row['condemned_at'], 'condemned_blobs.condemned_at'),
  };
}

/** From now on the grace period runs. One that runs already is not begun again. */
export async function condemn(
  tx: Db,
  tenantId: TenantId,
  blob: Copy & { readonly storedBytes: number },
): Promise<void> {
  await tx.k
    .insertInto('condemned_blobs')
    .values({
      tenant_id: tenantId,
      digest: blob.digest,
      generation: blob.generation,
      stored_bytes: blob.storedBytes,
      condemned_at: tx.now,
    })
    .onConflict((conflict) => conflict.columns(['tenant_id', 'digest', 'generation']).doNothing())
    .execute();
}

export async function pardon(tx: Db, tenantId: TenantId, blob: Copy): Promise<void> {
  await tx.k
    .deleteFrom('condemned_blobs')
    .where('tenant_id', '=', tenantId)
    .where('digest', '=', blob.digest)
    .where('generation', '=', blob.generation)
    .execute();
}

/** Those whose grace period is over by the database's clock, oldest first. */
export async function findOverdue(
  db: Db,
  { graceMs, limit }: { readonly graceMs: number; readonly limit: number },
): Promise<readonly CondemnedBlob[]> {
  const rows = await db.k
    .selectFrom('condemned_blobs')
    .selectAll()
    .where((eb) => eb(eb('condemned_at', '+', graceMs), '<=', db.now))
    .orderBy('condemned_at')
    .orderBy('generation')
    .limit(limit)
    .execute();
  return rows.map((row) => parseCondemnedRow({ ...row }));
}

/**
 * The last word before a copy is removed: true when it is condemned for the whole grace period and
 * no row names it, and it is struck from the list then. Nobody can take it up again after that:
 * its generation is named nowhere and never given a second time.
 */
export async function strike(
  tx: Db,
  copy: CondemnedBlob,
  { graceMs }: { readonly graceMs: number },
): Promise<boolean> {
  const named = await tx.k
    .selectFrom('blobs')
    .select('generation')
    .where('tenant_id', '=', copy.tenantId)
    .where('digest', '=', copy.digest)
    .where('generation', '=', copy.generation)
    .executeTakeFirst();
  if (named !== undefined) {
    await pardon(tx, copy.tenantId, copy);
    return false;
  }
  const struck = await tx.k
    .deleteFrom('condemned_blobs')
    .where('tenant_id', '=', copy.tenantId)
    .where('digest', '=', copy.digest)
    .where('generation', '=', copy.generation)
    .where((eb) => eb(eb('condemned_at', '+', graceMs), '<=', tx.now))
    .executeTakeFirst();
  return Number(struck.numDeletedRows) === 1;
}
