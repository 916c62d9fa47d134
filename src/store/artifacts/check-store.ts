import { parseDigest } from '../../core/digest.ts';
import { parseTenantId, type TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { Database, Db } from '../database.ts';
import { readInteger, readText } from '../row-values.ts';
import type { ArtifactStore, ListedFile } from './artifact-store.ts';
import { addStorage, findBlob, holdStorage } from './blob-rows.ts';
import { checkBlobs } from './check-blobs.ts';
import { condemnFile, unnamedOf } from './collect-garbage.ts';
import type { CheckOptions } from './store-finding.ts';
import { freshGeneration } from './stored-name.ts';

const BATCH = 200;

/**
 * Compares all rows with all bytes. May run beside a working service: what changes meanwhile is
 * looked at again before it is called a finding. A second run changes nothing. Gives the number of
 * blobs.
 */
export async function checkStore(
  database: Database,
  store: ArtifactStore,
  options: CheckOptions,
): Promise<number> {
  // First, so that what gets a row here is counted below.
  await checkArtifacts(database, options);
  const blobs = await checkBlobs(database, store, options);
  await checkFiles(database, store, options);
  await checkAccounts(database, options);
  return blobs;
}

/** Artifacts of builds without a row for their bytes: a repair notes these as missing. */
async function checkArtifacts(database: Database, options: CheckOptions): Promise<void> {
  const { repair, onFinding, signal } = options;
  const rows = await unbackedArtifacts(database);
  for (const { tenantId, digest, sizeBytes } of rows) {
    onFinding({ kind: 'unbacked', tenantId, digest });
    if (!repair) continue;
    await database.transaction(
      async (tx) => {
        await holdStorage(tx, tenantId);
        if ((await findBlob(tx, tenantId, digest)) !== undefined) return;
        await tx.k
          .insertInto('blobs')
          .values({
            tenant_id: tenantId,
            digest,
            size_bytes: sizeBytes,
            stored_bytes: sizeBytes,
            generation: freshGeneration(),
            data_key_id: null,
            state: 'missing',
            created_at: tx.now,
            verified_at: null,
          })
          .execute();
        await addStorage(tx, tenantId, sizeBytes);
      },
      { signal },
    );
  }
}

async function unbackedArtifacts(db: Db) {
  const rows = await db.k
    .selectFrom('build_artifacts')
    .innerJoin('tenants', 'tenants.id', 'build_artifacts.tenant_id')
    .leftJoin('blobs', (join) =>
      join
        .onRef('blobs.tenant_id', '=', 'build_artifacts.tenant_id')
        .onRef('blobs.digest', '=', 'build_artifacts.digest'),
    )
    .select((eb) => [
      'build_artifacts.tenant_id',
      'build_artifacts.digest',
      eb.fn.max('build_artifacts.size_bytes').as('size_bytes'),
    ])
    .where('blobs.digest', 'is', null)
    .groupBy(['build_artifacts.tenant_id', 'build_artifacts.digest'])
    .execute();
  return rows.map((row) => ({
    tenantId: parseTenantId(readText(row.tenant_id, 'build_artifacts.tenant_id')),
    digest: parseDigest(row.digest, 'build_artifacts.digest'),
    sizeBytes: readInteger(row.size_bytes, 'build_artifacts.size_bytes'),
  }));
}

/** Files without a row. A commit that is under way looks the same: only the grace period can tell. */
async function checkFiles(
  database: Database,
  store: ArtifactStore,
  options: CheckOptions,
): Promise<void> {
  let batch: Extract<ListedFile, { kind: 'blob' }>[] = [];
  const flush = async (): Promise<void> => {
    throwIfAborted(options.signal, 'check the artifact store');
    for (const file of await unnamedOf(database, batch)) {
      if (options.repair && !(await condemnFile(database, file, options.signal))) continue;
      options.onFinding({ kind: 'unnamed', tenantId: file.tenantId, digest: file.digest });
    }
    batch = [];
  };
  for await (const file of store.list(options)) {
    if (file.kind === 'foreign') options.onFinding(file);
    else batch.push(file);
    if (batch.length >= BATCH) await flush();
  }
  await flush();
}

async function checkAccounts(database: Database, options: CheckOptions): Promise<void> {
  const tenants = await database.k.selectFrom('tenants').select('id').orderBy('id').execute();
  for (const { id } of tenants) {
    const tenantId = parseTenantId(readText(id, 'tenants.id'));
    const account = await database.transaction(
      async (tx) => {
        if (options.repair) await holdStorage(tx, tenantId);
        const found = await readAccount(tx, tenantId);
        if (found === undefined || found.countedBytes === found.storedBytes) return undefined;
        if (options.repair) await addStorage(tx, tenantId, found.storedBytes - found.countedBytes);
        return found;
      },
      { signal: options.signal },
    );
    if (account !== undefined) options.onFinding({ kind: 'miscounted', tenantId, ...account });
  }
}

async function readAccount(
  db: Db,
  tenantId: TenantId,
): Promise<{ readonly countedBytes: number; readonly storedBytes: number } | undefined> {
  // One statement: one view of both tables.
  const row = await db.k
    .selectFrom('tenants')
    .select((eb) => [
      'storage_bytes',
      eb
        .selectFrom('blobs')
        .select((sub) => sub.fn.coalesce(sub.fn.sum('size_bytes'), sub.lit(0)).as('bytes'))
        .whereRef('blobs.tenant_id', '=', 'tenants.id')
        .as('stored'),
    ])
    .where('id', '=', tenantId)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    countedBytes: readInteger(row.storage_bytes, 'tenants.storage_bytes'),
    storedBytes: readInteger(row.stored, 'sum'),
  };
}
