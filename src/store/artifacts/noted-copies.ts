import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { parseBuildId, type TenantId } from '../../core/ids.ts';
import type { Database, Db } from '../database.ts';
import type { ArtifactStore, Generation, StagedAttempt, StoredBlob } from './artifact-store.ts';
import { holdStorage } from './blob-rows.ts';
import { type GarbageOptions, removeCopy } from './collect-garbage.ts';
import { condemn, type CondemnedBlob, parseCondemnedRow } from './condemned-rows.ts';
import { isHeld } from './sweep-staging.ts';

interface Call {
  readonly signal: AbortSignal;
}

/**
 * Writes down a copy that is about to be stored and that no row names yet: its bytes are known, and
 * go with its attempt, however that ends. Naming it strikes the note. A repeat changes nothing.
 */
export async function noteCopy(db: Db, tenantId: TenantId, blob: StoredBlob): Promise<void> {
  await condemn(db, tenantId, blob, 'pending');
}

/**
 * Before copies are named, in the same transaction: throws `service.unavailable` unless all of them
 * are surely there. A copy that another build released may have been removed since it was taken up,
 * one of an attempt that was thought dead as well, and a check may have found one missing or damaged.
 */
export async function requireNoted(
  tx: Db,
  tenantId: TenantId,
  blobs: readonly StoredBlob[],
): Promise<void> {
  await holdStorage(tx, tenantId);
  const known = new Set<string>();
  for (const table of ['blobs', 'condemned_blobs'] as const) {
    const rows = await tx.k
      .selectFrom(table)
      .select(['digest', 'generation'])
      .where('tenant_id', '=', tenantId)
      .where(
        'digest',
        'in',
        blobs.map(({ digest }) => digest),
      )
      .$if(table === 'blobs', (query) => query.where('state', '=', 'present'))
      .execute();
    for (const { digest, generation } of rows) known.add(`${digest} ${generation}`);
  }
  if (blobs.every(({ digest, generation }) => known.has(`${digest} ${generation}`))) return;
  throw new BuilderdError(
    'service.unavailable',
    'Cannot keep the artifacts: a copy of them was removed before it got its name',
  );
}

/**
 * Removes what was committed under a generation and never named, now: nobody else can know of these
 * copies. Only when nothing will be named under it any more. Gives their number.
 */
export async function discardCopies(
  database: Database,
  store: ArtifactStore,
  { tenantId, generation }: { readonly tenantId: TenantId; readonly generation: Generation },
  { signal }: Call,
): Promise<number> {
  const rows = await unnamed(database)
    .where('tenant_id', '=', tenantId)
    .where('generation', '=', generation)
    .execute();
  return await removeAll(database, store, parseRows(rows), { signal });
}

/**
 * Removes what dead attempts committed and never named: those whose build is gone, over, or in a
 * later attempt. Gives how many copies were (or with `dryRun` would be) removed.
 */
export async function sweepCopies(
  database: Database,
  store: ArtifactStore,
  { dryRun = false, ...options }: Omit<GarbageOptions, 'graceMs' | 'releasedGraceMs'>,
): Promise<number> {
  const rows = await unnamed(database).where('kind', '=', 'pending').execute();
  const dead: CondemnedBlob[] = [];
  for (const copy of parseRows(rows)) {
    const attempt = attemptOf(copy);
    if (attempt !== undefined && !(await isHeld(database, attempt))) dead.push(copy);
  }
  return dryRun ? dead.length : await removeAll(database, store, dead, options);
}

/** Copies that were never visible; a copy that has been named and released has a grace period. */
function unnamed(db: Db) {
  return db.k.selectFrom('condemned_blobs').selectAll().where('kind', 'in', ['pending', 'found']);
}

/** Rows that cannot be read are left to the garbage collection, which tells of them. */
function parseRows(
  rows: readonly { readonly [column: string]: unknown }[],
): readonly CondemnedBlob[] {
  return rows.flatMap((row) => {
    try {
      return [parseCondemnedRow(row)];
    } catch (reason) {
      if (isBuilderdError(reason)) return [];
      throw reason;
    }
  });
}

async function removeAll(
  database: Database,
  store: ArtifactStore,
  copies: readonly CondemnedBlob[],
  options: Omit<GarbageOptions, 'graceMs'>,
): Promise<number> {
  let removed = 0;
  for (const copy of copies) {
    if (await removeCopy(database, store, copy, { ...options, graceMs: 0 })) removed += 1;
  }
  return removed;
}

/** Undefined for copies that no attempt made, such as a log that was moved. */
function attemptOf({ generation }: CondemnedBlob): StagedAttempt | undefined {
  const [buildId = '', attempt] = generation.split('.');
  if (attempt === undefined) return undefined;
  return { buildId: parseBuildId(buildId), attempt: Number(attempt) };
}
