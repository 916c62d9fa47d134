import { newId, type TenantId } from '../../core/ids.ts';
import { SecretText } from '../../core/secret-text.ts';
import type { Db } from '../database.ts';
import {
  isObject,
  readBytes,
  readInteger,
  readJson,
  readOneOf,
  readOptionalText,
  readText,
} from '../row-values.ts';
import type { SealedSecrets, SecretPlace } from '../secrets/sealed-secrets.ts';
import { BuilderdError } from '../../core/errors.ts';

export const CREDENTIAL_KINDS = ['registry', 'git'] as const;
export type CredentialKind = (typeof CREDENTIAL_KINDS)[number];

/** What can be shown of a credential. */
export interface CredentialRecord {
  readonly id: string;
  readonly kind: CredentialKind;
  readonly host: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** What proves who we are at one host; only for the request to exactly that host. */
export interface CredentialSecret {
  readonly username?: string;
  readonly password?: SecretText;
  readonly token?: SecretText;
  readonly sshKey?: SecretText;
}

export interface CredentialScope {
  readonly tenantId: TenantId;
  readonly kind: CredentialKind;
  /** Exact, with the port if it has one. */
  readonly host: string;
}

/** Replaces what the tenant had for this kind and host. */
export async function putCredential(
  tx: Db,
  secrets: SealedSecrets,
  scope: CredentialScope,
  secret: CredentialSecret,
): Promise<{ readonly credential: CredentialRecord; readonly replaced: boolean }> {
  const known = await findCredential(tx, scope);
  const id = known?.id ?? newId();
  const sealed = secrets.seal(placeOf(scope.tenantId, id), textOf(secret));
  if (known === undefined) {
    await tx.k
      .insertInto('credentials')
      .values({
        id,
        tenant_id: scope.tenantId,
        kind: scope.kind,
        host: scope.host,
        sealed,
        created_at: tx.now,
        updated_at: tx.now,
      })
      .execute();
  } else {
    await tx.k
      .updateTable('credentials')
      .set({ sealed, updated_at: tx.now })
      .where('id', '=', id)
      .execute();
  }
  const credential = await findCredential(tx, scope);
  if (credential === undefined)
    throw new BuilderdError('internal', 'Cannot read back a credential');
  return { credential, replaced: known !== undefined };
}

/** The tenant's secret for exactly this host, or undefined: none of another tenant, none of a parent domain. */
export async function openCredential(
  db: Db,
  secrets: SealedSecrets,
  scope: CredentialScope,
): Promise<CredentialSecret | undefined> {
  const row = await db.k
    .selectFrom('credentials')
    .select(['id', 'sealed'])
    .where('tenant_id', '=', scope.tenantId)
    .where('kind', '=', scope.kind)
    .where('host', '=', scope.host)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const sealed = readBytes(row.sealed, 'credentials.sealed');
  return parseSecret(secrets.open(placeOf(scope.tenantId, row.id), sealed).toString('utf8'));
}

export async function listCredentials(
  db: Db,
  tenantId: TenantId,
): Promise<readonly CredentialRecord[]> {
  const rows = await db.k
    .selectFrom('credentials')
    .select(['id', 'kind', 'host', 'created_at', 'updated_at'])
    .where('tenant_id', '=', tenantId)
    .orderBy('kind')
    .orderBy('host')
    .execute();
  return rows.map((row) => parseCredentialRow({ ...row }));
}

/** Gives what was removed. */
export async function deleteCredential(
  tx: Db,
  tenantId: TenantId,
  id: string,
): Promise<CredentialRecord | undefined> {
  const row = await tx.k
    .deleteFrom('credentials')
    .where('tenant_id', '=', tenantId)
    .where('id', '=', id)
    .returning(['id', 'kind', 'host', 'created_at', 'updated_at'])
    .executeTakeFirst();
  return row === undefined ? undefined : parseCredentialRow({ ...row });
}

async function findCredential(
  db: Db,
  scope: CredentialScope,
): Promise<CredentialRecord | undefined> {
  const row = await db.k
    .selectFrom('credentials')
    .select(['id', 'kind', 'host', 'created_at', 'updated_at'])
    .where('tenant_id', '=', scope.tenantId)
    .where('kind', '=', scope.kind)
    .where('host', '=', scope.host)
    .executeTakeFirst();
  return row === undefined ? undefined : parseCredentialRow({ ...row });
}

function placeOf(tenantId: TenantId, rowId: string): SecretPlace {
  return { table: 'credentials', tenantId, rowId };
}

function parseCredentialRow(row: { readonly [column: string]: unknown }): CredentialRecord {
  return {
    id: readText(row['id'], 'credentials.id'),
    kind: readOneOf(CREDENTIAL_KINDS, row['kind'], 'credentials.kind'),
    host: readText(row['host'], 'credentials.host'),
    createdAt: readInteger(row['created_at'], 'credentials.created_at'),
    updatedAt: readInteger(row['updated_at'], 'credentials.updated_at'),
  };
}

function textOf({ username, password, token, sshKey }: CredentialSecret): string {
  return JSON.stringify({
    username,
    password: password?.reveal(),
    token: token?.reveal(),
    sshKey: sshKey?.reveal(),
  });
}

function parseSecret(text: string): CredentialSecret {
  const value = readJson(text, 'credentials.sealed');
  if (!isObject(value)) throw new BuilderdError('internal', 'Cannot read a sealed credential');
  const username = readOptionalText(value['username'], 'credentials.sealed');
  const secretOf = (name: string): SecretText | undefined => {
    const plain = readOptionalText(value[name], 'credentials.sealed');
    return plain === undefined ? undefined : new SecretText(plain);
  };
  const password = secretOf('password');
  const token = secretOf('token');
  const sshKey = secretOf('sshKey');
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(token === undefined ? {} : { token }),
    ...(sshKey === undefined ? {} : { sshKey }),
  };
}
