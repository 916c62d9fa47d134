import { BuilderdError } from '../../../core/errors.ts';
import { isUuid } from '../../../core/ids.ts';
import { SecretText } from '../../../core/secret-text.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import {
  CREDENTIAL_KINDS,
  type CredentialKind,
  type CredentialSecret,
  deleteCredential,
  listCredentials,
  putCredential,
} from '../../../store/credentials/credential-rows.ts';
import type { CredentialInput, TenantService } from '../tenant-service.ts';
import { requireTenant, requireWriter } from './access.ts';
import { holdActiveTenant } from './active-tenant.ts';
import { canonicalCredentialHost } from './credential-host.ts';
import type { TenantServiceOptions } from './tenant-deps.ts';

type Part = Pick<TenantService, 'putCredential' | 'listCredentials' | 'deleteCredential'>;

const MAX_CREDENTIALS = 200;
/** What goes into a header or a terminal prompt is one line; a private key has many. */
const LIMITS = { username: 256, password: 4096, token: 16_384, sshKey: 65_536 } as const;

export function manageCredentials({ database, secrets }: TenantServiceOptions): Part {
  return {
    async putCredential(caller, tenant, input, { signal }) {
      requireWriter(caller, 'store a credential');
      requireTenant(caller, tenant, 'store a credential');
      const { kind, host, secret } = parseCredential(input);
      return database.transaction(
        async (tx) => {
          await holdActiveTenant(tx, caller, tenant, 'store a credential');
          const { credential, replaced } = await putCredential(
            tx,
            secrets,
            { tenantId: tenant.id, kind, host },
            secret,
          );
          if ((await listCredentials(tx, tenant.id)).length > MAX_CREDENTIALS) {
            throw new BuilderdError(
              'api.conflict',
              `Cannot store another credential: a tenant has at most ${MAX_CREDENTIALS}`,
            );
          }
          await writeAudit(tx, caller, {
            tenantId: tenant.id,
            action: replaced ? 'credential.replace' : 'credential.create',
            target: credential.id,
            ...(replaced ? { oldValue: { kind, host } } : {}),
            newValue: { kind, host, fields: Object.keys(secret) },
          });
          return credential;
        },
        { signal },
      );
    },

    listCredentials: (tenant) => listCredentials(database, tenant.id),

    async deleteCredential(caller, tenant, id, { signal }) {
      requireWriter(caller, 'delete a credential');
      requireTenant(caller, tenant, 'delete a credential');
      await database.transaction(
        async (tx) => {
          const gone = isUuid(id) ? await deleteCredential(tx, tenant.id, id) : undefined;
          if (gone === undefined) {
            throw new BuilderdError(
              'api.not_found',
              'Cannot find the credential: there is none with this id',
            );
          }
          await writeAudit(tx, caller, {
            tenantId: tenant.id,
            action: 'credential.delete',
            target: id,
            oldValue: { kind: gone.kind, host: gone.host },
          });
        },
        { signal },
      );
    },
  };
}

function parseCredential(input: CredentialInput): {
  readonly kind: CredentialKind;
  readonly host: string;
  readonly secret: CredentialSecret;
} {
  const kind = CREDENTIAL_KINDS.find((candidate) => candidate === input.kind);
  if (kind === undefined) throw invalid(`kind: want ${CREDENTIAL_KINDS.join(', ')}`);
  const host = canonicalCredentialHost(input.host);
  const username = lineOf(input, 'username');
  const password = lineOf(input, 'password');
  const token = lineOf(input, 'token');
  const sshKey = lineOf(input, 'sshKey');
  if (password === undefined && token === undefined && sshKey === undefined) {
    throw invalid('content: want a password, a token or an sshKey');
  }
  if (sshKey !== undefined && kind === 'registry') throw invalid('sshKey: registries take none');
  if (password !== undefined && username === undefined)
    throw invalid('password: it needs a username');
  // RFC 7617: the first colon ends the name.
  if (username?.includes(':')) throw invalid('username: it may hold no colon');
  return {
    kind,
    host,
    secret: {
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password: new SecretText(password) }),
      ...(token === undefined ? {} : { token: new SecretText(token) }),
      ...(sshKey === undefined ? {} : { sshKey: new SecretText(sshKey) }),
    },
  };
}

function lineOf(input: CredentialInput, name: keyof typeof LIMITS): string | undefined {
  const value = input[name];
  if (value === undefined || value === '') return undefined;
  const allowed = name === 'sshKey' ? /^[\t\n\r\x20-\x7e]*$/ : /^[^\u0000-\u001f\u007f]*$/;
  if (value.length > LIMITS[name] || !allowed.test(value) || !value.isWellFormed()) {
    throw invalid(`${name}: want at most ${LIMITS[name]} characters and no control characters`);
  }
  return value;
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot store a credential with this ${fact}`);
}
