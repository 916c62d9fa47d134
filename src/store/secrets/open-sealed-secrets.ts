import { BuilderdError } from '../../core/errors.ts';
import type { Database, Db } from '../database.ts';
import { loadMasterKeys, type MasterKeySource } from './load-master-keys.ts';
import { createSealedSecrets, type SealedSecrets, type SecretPlace } from './sealed-secrets.ts';

const CHECK_KEY = 'master_key_check';
const CHECK_PLACE: SecretPlace = { table: 'meta', tenantId: '', rowId: CHECK_KEY };
const CHECK_TEXT = 'builderd';

export interface OpenedSecrets {
  readonly secrets: SealedSecrets;
  /** The key file that was made just now, in the data directory. */
  readonly madeFile?: string;
}

/**
 * Loads the master key and holds it against the database: a value that the first start sealed must
 * open. Throws `config.invalid` when the key is another one or its file is gone, so that no secret
 * is ever sealed under a key that the other processes do not have.
 */
export async function openSealedSecrets(
  database: Database,
  source: MasterKeySource,
  { signal }: { readonly signal: AbortSignal },
): Promise<OpenedSecrets> {
  const known = await readCheck(database);
  const { keys, madeFile } = await loadMasterKeys(source, { mayMake: known === undefined, signal });
  const secrets = createSealedSecrets(keys);
  await database.transaction((tx) => checkOrRemember(tx, secrets), { signal });
  return { secrets, ...(madeFile === undefined ? {} : { madeFile }) };
}

async function checkOrRemember(tx: Db, secrets: SealedSecrets): Promise<void> {
  const sealed = Buffer.from(secrets.seal(CHECK_PLACE, CHECK_TEXT)).toString('base64');
  await tx.k
    .insertInto('meta')
    .values({ key: CHECK_KEY, value: sealed })
    .onConflict((conflict) => conflict.column('key').doNothing())
    .execute();
  const known = await readCheck(tx);
  if (known === undefined) {
    throw new BuilderdError('internal', 'Cannot read back the check of the master key');
  }
  const bytes = Buffer.from(known, 'base64');
  if (!opens(secrets, bytes)) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot use master key ${secrets.keyId}: the secrets of this database are sealed under another one`,
    );
  }
}

function opens(secrets: SealedSecrets, sealed: Uint8Array): boolean {
  try {
    return secrets.open(CHECK_PLACE, sealed).toString('utf8') === CHECK_TEXT;
  } catch (reason) {
    if (reason instanceof BuilderdError) return false;
    throw reason;
  }
}

/** Seals the check anew; part of a rotation. */
export async function resealCheck(tx: Db, secrets: SealedSecrets): Promise<boolean> {
  const known = await readCheck(tx);
  if (known === undefined || !secrets.isOutdated(Buffer.from(known, 'base64'))) return false;
  const value = Buffer.from(secrets.seal(CHECK_PLACE, CHECK_TEXT)).toString('base64');
  await tx.k.updateTable('meta').set({ value }).where('key', '=', CHECK_KEY).execute();
  return true;
}

async function readCheck(db: Db): Promise<string | undefined> {
  const row = await db.k
    .selectFrom('meta')
    .select('value')
    .where('key', '=', CHECK_KEY)
    .executeTakeFirst();
  return row?.value;
}
