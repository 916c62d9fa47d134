import type { Digest } from '../../core/digest.ts';
import { asBuilderdError, type BuilderdError, isBuilderdError } from '../../core/errors.ts';
import type { TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { Database, Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import type { ArtifactStore, Generation, ListedFile } from './artifact-store.ts';
import { holdStorage } from './blob-rows.ts';
import {
  condemn,
  type CondemnedBlob,
  findOverdue,
  type Grace,
  strike,
  sumOverdue,
} from './condemned-rows.ts';

export interface GarbageOptions extends Grace {
  readonly dryRun?: boolean;
  /** Hears of what was passed over: a row that cannot be read, a copy that cannot be removed. */
  readonly onBadCopy?: (name: string, reason: BuilderdError) => void;
  readonly signal: AbortSignal;
}

export interface GarbageReport {
  /** Copies that no row named and that were not known as such; their grace period begins now. */
  readonly condemned: number;
  readonly removed: number;
  readonly removedBytes: number;
  /** Condemned before, still in their grace period. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** Names in the store that builderd did not write; never touched. */
  readonly foreign: readonly string[];
}

type StoredFile = Extract<ListedFile, { kind: 'blob' }>;

const BATCH = 200;
/** Foreign names that a report holds at most. */
const MAX_FOREIGN = 100;

/**
 * Removes what nobody can reach any more, by the rows alone: no file's age or name decides. May run
 * while builds commit and artifacts are downloaded, and in several processes at once. A dry run
 * reports what a run would do and writes nothing.
 */
export async function collectGarbage(
  database: Database,
  store: ArtifactStore,
  options: GarbageOptions,
): Promise<GarbageReport> {
  const { dryRun = false, signal } = options;
  const found = await condemnUnnamed(database, store, { dryRun, signal });
  let removed = 0;
  let removedBytes = 0;
  if (dryRun) {
    const due = await sumOverdue(database, options);
    removed = due.count;
    removedBytes = due.bytes;
  } else {
    for await (const copy of removeDue(database, store, options)) {
      removed += 1;
      removedBytes += copy.storedBytes;
    }
    await store.tidy({ signal });
  }
  const all = await sumCondemned(database);
  return {
    ...found,
    removed,
    removedBytes,
    waiting: all.count - (dryRun ? removed : 0),
    waitingBytes: all.bytes - (dryRun ? removedBytes : 0),
  };
}

/** What a crash between the commit of a copy and its row left, and what a damaged row lost. */
async function condemnUnnamed(
  database: Database,
  store: ArtifactStore,
  call: { readonly dryRun: boolean; readonly signal: AbortSignal },
): Promise<{ readonly condemned: number; readonly foreign: readonly string[] }> {
  const foreign: string[] = [];
  let condemned = 0;
  let batch: StoredFile[] = [];
  const flush = async (): Promise<void> => {
    for (const file of await unnamedOf(database, batch)) {
      if (call.dryRun || (await condemnFile(database, file, call.signal))) condemned += 1;
    }
    batch = [];
  };
  for await (const file of store.list(call)) {
    if (file.kind === 'foreign') {
      if (foreign.length < MAX_FOREIGN) foreign.push(file.name);
      continue;
    }
    batch.push(file);
    if (batch.length >= BATCH) await flush();
  }
  await flush();
  return { condemned, foreign };
}

/** Those of the files that neither a blob nor the list of condemned copies names. */
export async function unnamedOf(
  db: Db,
  files: readonly StoredFile[],
): Promise<readonly StoredFile[]> {
  const named = new Set<string>();
  const byTenant = Map.groupBy(files, ({ tenantId }) => tenantId);
  for (const [tenantId, group] of byTenant) {
    const digests = group.map(({ digest }) => digest);
    for (const table of ['blobs', 'condemned_blobs'] as const) {
      const rows = await db.k
        .selectFrom(table)
        .select(['digest', 'generation'])
        .where('tenant_id', '=', tenantId)
        .where('digest', 'in', digests)
        .execute();
      for (const row of rows) named.add(nameOf({ tenantId, ...row }));
    }
  }
  return files.filter((file) => !named.has(nameOf(file)));
}

function nameOf(copy: {
  readonly tenantId: TenantId;
  readonly digest: Digest | string;
  readonly generation: Generation | string;
}): string {
  return `${copy.tenantId} ${copy.digest} ${copy.generation}`;
}

/** False when a row names it by now. */
export async function condemnFile(
  database: Database,
  file: StoredFile,
  signal: AbortSignal,
): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      if ((await unnamedOf(tx, [file])).length === 0) return false;
      await condemn(tx, file.tenantId, file, 'found');
      return true;
    },
    { signal },
  );
}

/** Removes copies whose grace period is over, without looking for new ones; gives each of them. */
export async function* removeDue(
  database: Database,
  store: ArtifactStore,
  options: GarbageOptions,
): AsyncGenerator<CondemnedBlob, void, void> {
  for (;;) {
    const overdue = await findOverdue(database, {
      ...options,
      limit: BATCH,
      ...(options.onBadCopy === undefined ? {} : { onBadRow: options.onBadCopy }),
    });
    for (const copy of overdue) {
      throwIfAborted(options.signal, 'collect garbage');
      if (await removeCopy(database, store, copy, options)) yield copy;
    }
    if (overdue.length === 0) return;
  }
}

/** False when a row names the copy by now, somebody else removes it, or it cannot be removed. */
export async function removeCopy(
  database: Database,
  store: ArtifactStore,
  copy: CondemnedBlob,
  { signal, onBadCopy, ...grace }: GarbageOptions,
): Promise<boolean> {
  const isStruck = await database.transaction(
    async (tx) => {
      if (await tenantExists(tx, copy.tenantId)) await holdStorage(tx, copy.tenantId);
      return strike(tx, copy, grace);
    },
    { signal },
  );
  if (!isStruck) return false;
  try {
    // A crash here leaves a file without a row: found and condemned again by the next run.
    await store.remove(copy.tenantId, copy, { signal });
    return true;
  } catch (reason) {
    const isAway = isBuilderdError(reason, 'service.unavailable');
    if (onBadCopy === undefined || isAway || signal.aborted) throw reason;
    onBadCopy(nameOf(copy), asBuilderdError(reason, 'remove a copy'));
    return false;
  }
}

async function tenantExists(db: Db, id: TenantId): Promise<boolean> {
  const row = await db.k.selectFrom('tenants').select('id').where('id', '=', id).executeTakeFirst();
  return row !== undefined;
}

async function sumCondemned(db: Db): Promise<{ readonly count: number; readonly bytes: number }> {
  const row = await db.k
    .selectFrom('condemned_blobs')
    .select((eb) => [
      eb.fn.countAll().as('count'),
      eb.fn.coalesce(eb.fn.sum('stored_bytes'), eb.lit(0)).as('bytes'),
    ])
    .executeTakeFirstOrThrow();
  return { count: readInteger(row.count, 'count'), bytes: readInteger(row.bytes, 'sum') };
}
