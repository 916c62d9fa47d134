import { BuilderdError } from '../../../core/errors.ts';
import { readSecretFile, readSecretOption } from '../contexts/secret-input.ts';
import type { Session } from '../session.ts';
import type { BuildOptions } from './build-options.ts';
import type { SourceLogin } from './build-spec-options.ts';

/** The login for the registry or the Git host, out of files and standard input. */
export async function readLogin(session: Session, options: BuildOptions): Promise<SourceLogin> {
  refuseAmbiguous(options);
  const password = await readSecretOption(
    'source-password',
    { file: options.sourcePasswordFile, stdin: options.sourcePasswordStdin },
    session.host,
  );
  return {
    ...(options.sourceUsername === undefined ? {} : { username: options.sourceUsername }),
    ...(password === undefined ? {} : { password }),
    ...(options.sourceTokenFile === undefined
      ? {}
      : { token: await readSecretFile(options.sourceTokenFile) }),
  };
}

/** Refused here, not by the server: one of them would be ignored silently. */
function refuseAmbiguous({
  sourceTokenFile,
  sourcePasswordFile,
  sourcePasswordStdin,
}: BuildOptions): void {
  if (sourceTokenFile === undefined) return;
  if (sourcePasswordFile === undefined && sourcePasswordStdin === undefined) return;
  throw new BuilderdError(
    'usage.invalid',
    'Cannot use the login: want a password or a token, not both',
  );
}
