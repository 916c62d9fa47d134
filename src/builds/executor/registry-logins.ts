import type { TenantId } from '../../core/ids.ts';
import type { CredentialSource } from '../../runtime/registry/credentials.ts';
import type { Credential } from '../../runtime/registry/docker-config.ts';
import { type CredentialSecret, openCredential } from '../../store/credentials/credential-rows.ts';
import type { Db } from '../../store/database.ts';
import { readBytes } from '../../store/row-values.ts';
import type { SealedSecrets } from '../../store/secrets/sealed-secrets.ts';
import { type BuildSecrets, parseBuildSecrets, secretTexts } from '../build-secrets.ts';
import type { AttemptKey } from './attempt-images.ts';

/**
 * What one attempt may log in with; lives in memory, as long as the attempt. `onOpened` hears of
 * every text that no log may show, before anybody can send it anywhere.
 *
 * The login of the request for its own registry, else what the tenant keeps for exactly the host
 * that asks. Nothing of the host's own docker config: an operator's login is not a tenant's.
 */
export async function openRegistryLogins(
  db: Db,
  sealed: SealedSecrets,
  { tenantId, buildId }: AttemptKey,
  registry: string,
  onOpened: (secrets: readonly string[]) => void,
): Promise<CredentialSource> {
  const ofBuild = await openBuildSecrets(db, sealed, tenantId, buildId);
  const ofTenant = await openCredential(db, sealed, { tenantId, kind: 'registry', host: registry });
  const requested = ofBuild === undefined ? undefined : credentialOf(ofBuild);
  const kept = ofTenant === undefined ? undefined : plainOf(ofTenant);
  const opened = (login: BuildSecrets): BuildSecrets => {
    onOpened(secretTexts(login));
    return login;
  };
  for (const login of [ofBuild, kept]) if (login !== undefined) opened(login);
  return {
    async credentialFor(host) {
      if (host === registry) {
        return requested ?? (kept === undefined ? undefined : credentialOf(kept));
      }
      const other = await openCredential(db, sealed, { tenantId, kind: 'registry', host });
      return other === undefined ? undefined : credentialOf(opened(plainOf(other)));
    },
  };
}

async function openBuildSecrets(
  db: Db,
  sealed: SealedSecrets,
  tenantId: TenantId,
  buildId: string,
): Promise<BuildSecrets | undefined> {
  const row = await db.k
    .selectFrom('build_secrets')
    .select('sealed')
    .where('build_id', '=', buildId)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const place = { table: 'build_secrets', tenantId, rowId: buildId } as const;
  const bytes = readBytes(row.sealed, 'build_secrets.sealed');
  return parseBuildSecrets(sealed.open(place, bytes).toString('utf8'));
}

function plainOf({ username, password, token }: CredentialSecret): BuildSecrets {
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: password.reveal() }),
    ...(token === undefined ? {} : { token: token.reveal() }),
  };
}

/** A token with a user is what registries call an access token: it stands in for the password. */
function credentialOf({ username = '', password, token }: BuildSecrets): Credential | undefined {
  if (password !== undefined && password !== '') {
    return { kind: 'password', user: username, password };
  }
  if (token === undefined || token === '') return undefined;
  if (username !== '') return { kind: 'password', user: username, password: token };
  return { kind: 'identity-token', token };
}
