import { BuilderdError } from '../../core/errors.ts';
import { newId, type TenantId } from '../../core/ids.ts';
import type { Database, Db } from '../database.ts';
import { readBytes, readText } from '../row-values.ts';
import type { SealedSecrets } from '../secrets/sealed-secrets.ts';
import { holdStorage } from './blob-rows.ts';

/** An age X25519 key pair of one tenant. */
export interface TenantKey {
  readonly id: string;
  /** `age1…`: encrypts. */
  readonly recipient: string;
  /** `AGE-SECRET-KEY-1…`: decrypts. Never in a log, a message or an answer. */
  readonly identity: string;
}

interface Call {
  readonly signal: AbortSignal;
}

/** The keys that artifacts are encrypted to, sealed in the database under the master key. */
export interface TenantKeys {
  /** The key for new artifacts; made when the tenant has none. */
  current(tenantId: TenantId, call: Call): Promise<TenantKey>;
  /** Also a retired one. Throws `artifact.corrupt` when there is none. */
  byId(tenantId: TenantId, id: string, call: Call): Promise<TenantKey>;
  /** All of them, the newest first, for an operator who keeps copies of them elsewhere. */
  list(tenantId: TenantId, call: Call): Promise<readonly TenantKey[]>;
  /** A new key for new artifacts; the old ones still open what they encrypted. */
  rotate(tenantId: TenantId, call: Call): Promise<TenantKey>;
}

/** Keys that are kept opened; each is read from its row again after that many others. */
const MAX_OPENED = 1000;

export function createTenantKeys(database: Database, secrets: SealedSecrets): TenantKeys {
  const opened = new Map<string, TenantKey>();
  const remember = (key: TenantKey): TenantKey => {
    if (opened.size >= MAX_OPENED) opened.clear();
    opened.set(key.id, key);
    return key;
  };
  const open = async (tenantId: TenantId, row: KeyRow): Promise<TenantKey> =>
    opened.get(row.id) ?? remember(await openKey(secrets, tenantId, row));
  const make = async (tx: Db, tenantId: TenantId): Promise<TenantKey> =>
    remember(await insertKey(tx, secrets, tenantId));
  return {
    async current(tenantId, { signal }) {
      const row = await findCurrent(database, tenantId);
      if (row !== undefined) return open(tenantId, row);
      return database.transaction(
        async (tx) => {
          await holdStorage(tx, tenantId);
          const made = await findCurrent(tx, tenantId);
          return made === undefined ? make(tx, tenantId) : open(tenantId, made);
        },
        { signal },
      );
    },
    async byId(tenantId, id) {
      const row = await database.k
        .selectFrom('data_keys')
        .select(['id', 'sealed'])
        .where('tenant_id', '=', tenantId)
        .where('id', '=', id)
        .executeTakeFirst();
      if (row !== undefined) return open(tenantId, parseKeyRow({ ...row }));
      throw new BuilderdError('artifact.corrupt', 'Cannot open the artifact: its key is gone');
    },
    async list(tenantId) {
      const rows = await database.k
        .selectFrom('data_keys')
        .select(['id', 'sealed'])
        .where('tenant_id', '=', tenantId)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .execute();
      const keys: TenantKey[] = [];
      for (const row of rows) keys.push(await open(tenantId, parseKeyRow({ ...row })));
      return keys;
    },
    rotate: (tenantId, { signal }) =>
      database.transaction(
        async (tx) => {
          await holdStorage(tx, tenantId);
          await tx.k
            .updateTable('data_keys')
            .set({ retired_at: tx.now })
            .where('tenant_id', '=', tenantId)
            .where('retired_at', 'is', null)
            .execute();
          return make(tx, tenantId);
        },
        { signal },
      ),
  };
}

interface KeyRow {
  readonly id: string;
  readonly sealed: Uint8Array;
}

function parseKeyRow(row: { readonly [column: string]: unknown }): KeyRow {
  return {
    id: readText(row['id'], 'data_keys.id'),
    sealed: readBytes(row['sealed'], 'data_keys.sealed'),
  };
}

async function findCurrent(db: Db, tenantId: TenantId): Promise<KeyRow | undefined> {
  const row = await db.k
    .selectFrom('data_keys')
    .select(['id', 'sealed'])
    .where('tenant_id', '=', tenantId)
    .where('retired_at', 'is', null)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
  return row === undefined ? undefined : parseKeyRow({ ...row });
}

async function openKey(
  secrets: SealedSecrets,
  tenantId: TenantId,
  { id, sealed }: KeyRow,
): Promise<TenantKey> {
  const { identityToRecipient } = await import('age-encryption');
  const place = { table: 'data_keys', tenantId, rowId: id } as const;
  const identity = secrets.open(place, sealed).toString('latin1');
  return { id, identity, recipient: await identityToRecipient(identity) };
}

async function insertKey(tx: Db, secrets: SealedSecrets, tenantId: TenantId): Promise<TenantKey> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption');
  const id = newId();
  const identity = await generateX25519Identity();
  await tx.k
    .insertInto('data_keys')
    .values({
      id,
      tenant_id: tenantId,
      sealed: secrets.seal({ table: 'data_keys', tenantId, rowId: id }, identity),
      created_at: tx.now,
      retired_at: null,
    })
    .execute();
  return { id, identity, recipient: await identityToRecipient(identity) };
}
