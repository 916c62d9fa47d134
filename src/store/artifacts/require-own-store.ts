import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readDatabaseId } from '../database-id.ts';
import type { ArtifactStore } from './artifact-store.ts';

export interface OwnStoreOptions {
  /** What people call the store: its directory, or bucket and prefix. */
  readonly name: string;
  /** Makes it this database's, whatever it was: after a restore. */
  readonly adopt?: boolean;
  /** For a process that only opens artifacts: it marks nothing. */
  readonly readOnly?: boolean;
  readonly signal: AbortSignal;
}

/**
 * A store belongs to one database: whatever that does not name is garbage. Throws `config.invalid`
 * for a store of another one, for one that is not marked though it, or the database, is in use (a
 * wrong directory, or a disk that is not mounted). An unused store is marked.
 */
export async function requireOwnStore(
  db: Db,
  store: ArtifactStore,
  { name, adopt = false, readOnly = false, signal }: OwnStoreOptions,
): Promise<void> {
  const id = await readDatabaseId(db);
  const mark = await store.readMark({ signal });
  if (mark === id) return;
  if (mark === undefined && readOnly) return;
  if (!adopt) {
    if (mark !== undefined) throw refuse(name, 'it belongs to another database');
    if (await holdsBlobs(store, signal)) {
      throw refuse(name, 'it holds artifacts and does not say of which database');
    }
    if (await namesBlobs(db)) {
      throw refuse(name, 'it is empty, and the database names artifacts; is it mounted');
    }
  }
  await store.writeMark(id, { replace: adopt, signal });
  // Two databases may have found it unused at once.
  if ((await store.readMark({ signal })) !== id) {
    throw refuse(name, 'it belongs to another database');
  }
}

function refuse(name: string, fact: string): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use the artifact store ${JSON.stringify(name)}: ${fact}; correct the settings of the store or of the database, or, after a restore, run builderd fsck --adopt-store`,
  );
}

async function holdsBlobs(store: ArtifactStore, signal: AbortSignal): Promise<boolean> {
  for await (const file of store.list({ signal })) {
    if (file.kind === 'blob') return true;
  }
  return false;
}

async function namesBlobs(db: Db): Promise<boolean> {
  const row = await db.k
    .selectFrom('blobs')
    .select('digest')
    .where('state', '=', 'present')
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}
