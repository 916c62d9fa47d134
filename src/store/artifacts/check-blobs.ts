import { throwIfAborted } from '../../core/scope.ts';
import type { Database, Db } from '../database.ts';
import { dropUnreferenced, isReferenced } from './artifact-rows.ts';
import type { ArtifactStore } from './artifact-store.ts';
import {
  type BlobRecord,
  findBlob,
  holdStorage,
  noteBlobState,
  parseBlobRow,
} from './blob-rows.ts';
import { parseEach } from '../parse-each.ts';
import type { BlobRow } from '../schema.ts';
import type { CheckOptions } from './store-finding.ts';
import { verifyBlob } from './verify-blob.ts';

const PAGE = 200;

/** Holds every row against its bytes; gives how many there were. */
export async function checkBlobs(
  database: Database,
  store: ArtifactStore,
  options: CheckOptions,
): Promise<number> {
  let count = 0;
  for await (const blob of allBlobs(database, options)) {
    count += 1;
    await checkBlob(database, store, blob, options);
  }
  return count;
}

/** One row; what changed while its bytes were read is no finding. */
export async function checkBlob(
  database: Database,
  store: ArtifactStore,
  blob: BlobRecord,
  options: CheckOptions,
): Promise<void> {
  const { tenantId, digest } = blob;
  const { repair, onFinding } = options;
  if (!(await isReferenced(database, tenantId, digest))) {
    if (repair && !(await drop(database, blob, options.signal))) return;
    onFinding({ kind: 'unreferenced', tenantId, digest });
    return;
  }
  const verdict = await verifyBlob(store, blob, options);
  const current = await findBlob(database, tenantId, digest);
  if (current?.generation !== blob.generation) return;
  if (verdict.kind !== 'sound') {
    onFinding({ tenantId, digest, ...verdict });
    if (repair) await noteBlobState(database, blob, verdict.kind);
    return;
  }
  // The right length says nothing new about bytes that were found wrong.
  if (blob.state === 'corrupt' && options.depth === 'size') return;
  if (blob.state !== 'present') onFinding({ kind: 'healed', tenantId, digest });
  const isNews = blob.state !== 'present' || options.depth === 'content';
  if (repair && isNews) await noteBlobState(database, blob, 'present');
}

/** False when an artifact has the bytes by now, or the row is gone. */
async function drop(database: Database, blob: BlobRecord, signal: AbortSignal): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      await holdStorage(tx, blob.tenantId);
      const isThere = (await findBlob(tx, blob.tenantId, blob.digest)) !== undefined;
      if (!isThere || (await isReferenced(tx, blob.tenantId, blob.digest))) return false;
      await dropUnreferenced(tx, blob.tenantId, blob.digest);
      return true;
    },
    { signal },
  );
}

/** In pages, so that no cursor is held while bytes are read. */
async function* allBlobs(
  db: Db,
  { onFinding, signal }: Pick<CheckOptions, 'onFinding' | 'signal'>,
): AsyncGenerator<BlobRecord, void, void> {
  let after = { tenantId: '', digest: '' };
  for (;;) {
    throwIfAborted(signal, 'check the artifact store');
    const { tenantId, digest } = after;
    const rows = await db.k
      .selectFrom('blobs')
      .selectAll()
      .where((eb) =>
        eb.or([
          eb('tenant_id', '>', tenantId),
          eb.and([eb('tenant_id', '=', tenantId), eb('digest', '>', digest)]),
        ]),
      )
      .orderBy('tenant_id')
      .orderBy('digest')
      .limit(PAGE)
      .execute();
    yield* readable(rows, onFinding);
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE) return;
    after = { tenantId: last.tenant_id, digest: last.digest };
  }
}

function readable(
  rows: readonly BlobRow[],
  onFinding: CheckOptions['onFinding'],
): readonly BlobRecord[] {
  const { parsed, unreadable } = parseEach(rows, (row) => parseBlobRow({ ...row }));
  for (const { row, reason } of unreadable) {
    const name = `${row.tenant_id} ${row.digest}`;
    onFinding({ kind: 'unreadable', name, fact: reason.message });
  }
  return parsed;
}

export interface ScrubOptions extends Omit<CheckOptions, 'depth' | 'repair'> {
  readonly bytesPerSecond: number;
  /** Stop once this much has been read. */
  readonly maxBytes: number;
}

/** Reads the bytes that were not read for longest, slowly, and notes damage. Gives the bytes read. */
export async function scrubBlobs(
  database: Database,
  store: ArtifactStore,
  options: ScrubOptions,
): Promise<number> {
  const rows = await database.k
    .selectFrom('blobs')
    .selectAll()
    .where('state', '=', 'present')
    .orderBy((eb) => eb.fn.coalesce('verified_at', eb.lit(0)))
    .orderBy('digest')
    .limit(PAGE)
    .execute();
  let read = 0;
  for (const blob of readable(rows, options.onFinding)) {
    if (read > 0 && read + blob.storedBytes > options.maxBytes) break;
    await checkBlob(database, store, blob, { ...options, depth: 'content', repair: true });
    read += blob.storedBytes;
  }
  return read;
}
