import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import type { Identity } from './role-protocol.ts';

/** Accounts of a directory service are asked for by getent; the local file needs no program. */
export async function findServiceUser(
  name: string,
  { signal, searchPath }: { readonly signal: AbortSignal; readonly searchPath: string },
): Promise<Identity> {
  if (!/^[a-z_][a-z0-9_.-]{0,31}\$?$/i.test(name)) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot use ${JSON.stringify(name.slice(0, 60))} for UNKEY_BUILDERD_SERVICE_USER: want the name of an account`,
    );
  }
  const local = parseAccount(await readFile('/etc/passwd', { encoding: 'utf8', signal }), name);
  const found = local ?? parseAccount(await getent(name, { signal, searchPath }), name);
  if (found === undefined) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot run the API as ${name}: there is no such account; make it with ` +
        `\`useradd --system --home /var/lib/builderd --shell /bin/false ${name}\` or name another in UNKEY_BUILDERD_SERVICE_USER`,
    );
  }
  if (found.uid === 0) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot run the API as ${name}: it is root, which is what the API must not be`,
    );
  }
  return found;
}

/** passwd(5). */
export function parseAccount(passwd: string, name: string): Identity | undefined {
  for (const line of passwd.split('\n')) {
    const [user, , uid = '', gid = ''] = line.split(':');
    if (user === name && /^\d{1,10}$/.test(uid) && /^\d{1,10}$/.test(gid)) {
      return { uid: Number(uid), gid: Number(gid), name };
    }
  }
  return undefined;
}

async function getent(
  name: string,
  { signal, searchPath }: { readonly signal: AbortSignal; readonly searchPath: string },
): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('getent', ['passwd', '--', name], {
      signal,
      timeout: 10_000,
      env: { PATH: searchPath },
    });
    return stdout;
  } catch (reason) {
    signal.throwIfAborted();
    // Exit 2: no such account. ENOENT: no getent on this host.
    if (errnoOf(reason) === 'ENOENT' || (reason instanceof Error && 'code' in reason)) return '';
    throw reason;
  }
}
