import { type Digest, parseDigest } from '../../core/digest.ts';
import { asBuilderdError, type BuilderdError } from '../../core/errors.ts';
import { parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { readInteger, readOneOf, readText } from '../row-values.ts';
import type { Generation, StoredBlob } from './artifact-store.ts';
import { parseGeneration } from './stored-name.ts';

/**
 * Why no row names a copy: `pending` was committed by an attempt that may still name it, `found` lay
 * in the store and nobody knew it, `released` belonged to builds that were deleted, `replaced` was
 * stored again by an operator.
 */
export const CONDEMNED_KINDS = ['pending', 'found', 'released', 'replaced'] as const;
export type CondemnedKind = (typeof CONDEMNED_KINDS)[number];

/** A stored copy that no blob row names, and since when that is known. */
export interface CondemnedBlob {
  readonly tenantId: TenantId;
  readonly digest: Digest;
  readonly generation: Generation;
  readonly storedBytes: number;
  readonly kind: CondemnedKind;
  readonly condemnedAt: number;
}

/** How long a copy is kept after it was condemned. */
export interface Grace {
  /** For copies that an attempt may still name, or that a restored database may still know. */
  readonly graceMs: number;
  /** For those of deleted builds: a download of them may be under way. Default: the same. */
  readonly releasedGraceMs?: number;
}

type Copy = Pick<StoredBlob, 'digest' | 'generation'>;

export function parseCondemnedRow(row: { readonly [column: string]: unknown }): CondemnedBlob {
  return {
    tenantId: parseTenantId(readText(row['tenant_id'], 'condemned_blobs.tenant_id')),
    digest: parseDigest(row['digest'], 'condemned_blobs.digest'),
    generation: parseGeneration(readText(row['generation'], 'condemned_blobs.generation')),
    storedBytes: readInteger(row['stored_bytes'], 'condemned_blobs.stored_bytes'),
    kind: readOneOf(CONDEMNED_KINDS, row['kind'], 'condemned_blobs.kind'),
    condemnedAt: readInteger(row['condemned_at'], 'condemned_blobs.condemned_at'),
  };
}

/** From now on the grace period runs. One that runs already is not begun again. */
export async function condemn(
  tx: Db,
  tenantId: TenantId,
  blob: Copy & { readonly storedBytes: number },
  kind: CondemnedKind,
): Promise<void> {
  await tx.k
    .insertInto('condemned_blobs')
    .values({
      tenant_id: tenantId,
      digest: blob.digest,
      generation: blob.generation,
      stored_bytes: blob.storedBytes,
      kind,
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

/** Bytes of deleted builds that still lie in the store: a tenant has not got that room back yet. */
export async function readReleasedBytes(db: Db, tenantId: TenantId): Promise<number> {
  const { bytes } = await db.k
    .selectFrom('condemned_blobs')
    .select((eb) => eb.fn.coalesce(eb.fn.sum('stored_bytes'), eb.lit(0)).as('bytes'))
    .where('tenant_id', '=', tenantId)
    .where('kind', '=', 'released')
    .executeTakeFirstOrThrow();
  return readInteger(bytes, 'sum');
}

/**
 * Those whose grace period is over by the database's clock, oldest first. A row that nobody can read
 * is struck at once: its copy, if there is one, is found again by its name.
 */
export async function findOverdue(
  db: Db,
  {
    limit,
    onBadRow,
    ...grace
  }: Grace & {
    readonly limit: number;
    readonly onBadRow?: (name: string, reason: BuilderdError) => void;
  },
): Promise<readonly CondemnedBlob[]> {
  const rows = await overdue(db, grace)
    .selectAll()
    .orderBy('condemned_at')
    .orderBy('generation')
    .limit(limit)
    .execute();
  const found: CondemnedBlob[] = [];
  for (const row of rows) {
    try {
      found.push(parseCondemnedRow({ ...row }));
    } catch (reason) {
      await db.k
        .deleteFrom('condemned_blobs')
        .where('tenant_id', '=', row.tenant_id)
        .where('digest', '=', row.digest)
        .where('generation', '=', row.generation)
        .execute();
      const name = `${row.tenant_id} ${row.digest} ${row.generation}`;
      onBadRow?.(name, asBuilderdError(reason, 'read a condemned copy'));
    }
  }
  return found;
}

export async function sumOverdue(
  db: Db,
  grace: Grace,
): Promise<{ readonly count: number; readonly bytes: number }> {
  const row = await overdue(db, grace)
    .select((eb) => [
      eb.fn.countAll().as('count'),
      eb.fn.coalesce(eb.fn.sum('stored_bytes'), eb.lit(0)).as('bytes'),
    ])
    .executeTakeFirstOrThrow();
  return { count: readInteger(row.count, 'count'), bytes: readInteger(row.bytes, 'sum') };
}

/**
 * The last word before a copy is removed: true when it is condemned for the whole grace period and
 * no row names it, and it is struck from the list then. Nobody can take it up again after that:
 * its generation is named nowhere and never given a second time.
 */
export async function strike(tx: Db, copy: CondemnedBlob, grace: Grace): Promise<boolean> {
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
    // It may have been named and released since it was read: then another grace period runs.
    .where('kind', '=', copy.kind)
    .where((eb) => eb(eb('condemned_at', '+', graceOf(copy.kind, grace)), '<=', tx.now))
    .executeTakeFirst();
  return Number(struck.numDeletedRows) === 1;
}

function graceOf(kind: CondemnedKind, { graceMs, releasedGraceMs = graceMs }: Grace): number {
  return kind === 'released' ? releasedGraceMs : graceMs;
}

function overdue(db: Db, { graceMs, releasedGraceMs = graceMs }: Grace) {
  return db.k
    .selectFrom('condemned_blobs')
    .where((eb) =>
      eb.or([
        eb.and([eb('kind', '<>', 'released'), eb(eb('condemned_at', '+', graceMs), '<=', db.now)]),
        eb.and([
          eb('kind', '=', 'released'),
          eb(eb('condemned_at', '+', releasedGraceMs), '<=', db.now),
        ]),
      ]),
    );
}
