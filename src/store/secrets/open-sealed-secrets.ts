import { BuilderdError } from '../../core/errors.ts';
import type { Database, Db } from '../database.ts';
import { loadMasterKeys, type MasterKeySource } from './load-master-keys.ts';
import { type Resealed, resealSecrets } from './reseal-secrets.ts';
import { createSealedSecrets, type SealedSecrets, type SecretPlace } from './sealed-secrets.ts';

const CHECK_KEY = 'master_key_check';
const CHECK_PLACE: SecretPlace = { table: 'meta', tenantId: '', rowId: CHECK_KEY };
const CHECK_TEXT = 'builderd';

export interface OpenedSecrets {
  readonly secrets: SealedSecrets;
  /** The key file that was made just now, in the data directory. */
  readonly madeFile?: string;
  /** A newer key was found than the one that sealed the database: what became of the rows. */
  readonly resealed?: Resealed;
}

/**
 * Loads the master key and holds it against the database: a value that the first start sealed must
 * open. Throws `config.invalid` when the key is another one or its file is gone, so that no secret
 * is ever sealed under a key that the other processes do not have. Under a newer key it seals
 * everything anew before it returns: to rotate, every process gets the new key below the old one
 * first, then above it.
 */
export async function openSealedSecrets(
  database: Database,
  source: MasterKeySource,
  { signal }: { readonly signal: AbortSignal },
): Promise<OpenedSecrets> {
  const known = await readCheck(database);
  const { keys, madeFile } = await loadMasterKeys(source, { mayMake: known === undefined, signal });
  const secrets = createSealedSecrets(keys);
  const isOutdated = await database.transaction((tx) => checkOrRemember(tx, secrets), { signal });
  const resealed = isOutdated ? await resealSecrets(database, secrets, { signal }) : undefined;
  // Last: a rotation that breaks off is taken up by the next start.
  if (isOutdated) await database.transaction((tx) => writeCheck(tx, secrets), { signal });
  return {
    secrets,
    ...(madeFile === undefined ? {} : { madeFile }),
    ...(resealed === undefined ? {} : { resealed }),
  };
}

/** Whether an older key than the first one of this process sealed the check. */
async function checkOrRemember(tx: Db, secrets: SealedSecrets): Promise<boolean> {
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
  return secrets.isOutdated(bytes);
}

function opens(secrets: SealedSecrets, sealed: Uint8Array): boolean {
  try {
    return secrets.open(CHECK_PLACE, sealed).toString('utf8') === CHECK_TEXT;
  } catch (reason) {
    if (reason instanceof BuilderdError) return false;
    throw reason;
  }
}

async function writeCheck(tx: Db, secrets: SealedSecrets): Promise<void> {
  const value = Buffer.from(secrets.seal(CHECK_PLACE, CHECK_TEXT)).toString('base64');
  await tx.k.updateTable('meta').set({ value }).where('key', '=', CHECK_KEY).execute();
}

async function readCheck(db: Db): Promise<string | undefined> {
  const row = await db.k
    .selectFrom('meta')
    .select('value')
    .where('key', '=', CHECK_KEY)
    .executeTakeFirst();
  return row?.value;
}
