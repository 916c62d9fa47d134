import { BuilderdError } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { Database, Db } from '../database.ts';
import type { SealedSecrets, SecretPlace } from './sealed-secrets.ts';

type SealedTable = Exclude<SecretPlace['table'], 'meta'>;
const TABLES: readonly SealedTable[] = ['credentials', 'webhooks', 'data_keys', 'build_secrets'];
const BATCH = 100;

interface SealedRow {
  readonly rowId: string;
  readonly tenantId: string;
  readonly sealed: Uint8Array;
}

export interface Resealed {
  /** Rows that are under the newest key now and were not before. */
  readonly resealed: number;
  /** Rows that no loaded key opens; left as they are. */
  readonly unreadable: number;
}

/**
 * Second half of a rotation: seals under the newest key what an older one sealed. Other processes
 * may read and write meanwhile; it may stop and run again. When it gives two zeros, and all
 * processes have the new key, the old one can be taken out.
 */
export async function resealSecrets(
  database: Database,
  secrets: SealedSecrets,
  { signal }: { readonly signal: AbortSignal },
): Promise<Resealed> {
  let resealed = 0;
  let unreadable = 0;
  for (const table of TABLES) {
    let after = '';
    for (;;) {
      throwIfAborted(signal, 'seal secrets under a new key');
      const rows = await readRows(database, table, after);
      const last = rows.at(-1);
      if (last === undefined) break;
      after = last.rowId;
      const renewals = rows
        .filter((row) => secrets.isOutdated(row.sealed))
        .map((row) => ({ row, renewed: renew(secrets, table, row) }));
      unreadable += renewals.filter(({ renewed }) => renewed === undefined).length;
      resealed += await database.transaction(
        async (tx) => {
          let count = 0;
          for (const { row, renewed } of renewals) {
            if (renewed !== undefined) count += await replaceSealed(tx, table, row, renewed);
          }
          return count;
        },
        { signal },
      );
    }
  }
  return { resealed, unreadable };
}

async function readRows(db: Db, table: SealedTable, after: string): Promise<SealedRow[]> {
  if (table === 'build_secrets') {
    return db.k
      .selectFrom('build_secrets')
      .innerJoin('builds', 'builds.id', 'build_secrets.build_id')
      .select(['build_secrets.build_id as rowId', 'builds.tenant_id as tenantId', 'sealed'])
      .where('build_secrets.build_id', '>', after)
      .orderBy('build_secrets.build_id')
      .limit(BATCH)
      .execute();
  }
  return db.k
    .selectFrom(table)
    .select(['id as rowId', 'tenant_id as tenantId', 'sealed'])
    .where('id', '>', after)
    .orderBy('id')
    .limit(BATCH)
    .execute();
}

function renew(
  secrets: SealedSecrets,
  table: SealedTable,
  { rowId, tenantId, sealed }: SealedRow,
): Uint8Array | undefined {
  const place = { table, tenantId, rowId };
  try {
    return secrets.seal(place, secrets.open(place, sealed));
  } catch (reason) {
    if (reason instanceof BuilderdError) return undefined;
    throw reason;
  }
}

/** Leaves a row alone that someone else wrote meanwhile: it is under the new key already. */
async function replaceSealed(
  tx: Db,
  table: SealedTable,
  { rowId, sealed }: SealedRow,
  renewed: Uint8Array,
): Promise<number> {
  const query =
    table === 'build_secrets'
      ? tx.k
          .updateTable('build_secrets')
          .set({ sealed: renewed })
          .where('build_id', '=', rowId)
          .where('sealed', '=', sealed)
      : tx.k
          .updateTable(table)
          .set({ sealed: renewed })
          .where('id', '=', rowId)
          .where('sealed', '=', sealed);
  const done = await query.executeTakeFirst();
  return Number(done.numUpdatedRows);
}
