import { type FileHandle, open, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import { BuilderdError, errnoOf } from '../../../core/errors.ts';
import type { Session } from '../session.ts';
import { told } from '../view/told.ts';

/** Where a secret goes that the server tells only once. */
export interface SecretTarget {
  readonly secretFile?: string;
  readonly showSecret?: true;
}

export function withSecretOptions(command: Command): Command {
  return command
    .option('--secret-file <file>', 'write the secret to this new file, mode 0600')
    .option('--show-secret', 'print the secret, once');
}

/**
 * Makes something that has a secret, and puts it where the user said. The place is taken before the
 * thing is made: a secret that cannot be kept would be lost with it.
 */
export async function giveSecret(
  session: Session,
  { secretFile, showSecret }: SecretTarget,
  make: () => Promise<{
    readonly secret: string;
    readonly document: object;
    readonly text: string;
  }>,
): Promise<void> {
  if ((secretFile === undefined) === (showSecret === undefined)) {
    throw new BuilderdError(
      'usage.invalid',
      'Cannot make a secret: want one of --secret-file FILE and --show-secret, for it is told only once',
    );
  }
  if (secretFile === undefined) {
    const { secret, document, text } = await make();
    session.show({ ...document, secret }, () => `${text}${told`${secret}`}\n`);
    return;
  }
  const { document, text } = await intoNewFile(secretFile, make);
  session.show(
    { ...document, secretFile },
    () => `${text}${told`Its secret is in ${secretFile}`}\n`,
  );
}

async function intoNewFile<M extends { readonly secret: string }>(
  path: string,
  make: () => Promise<M>,
): Promise<M> {
  await using handle = await openNew(path);
  let made: M;
  try {
    made = await make();
  } catch (reason) {
    await rm(path, { force: true });
    throw reason;
  }
  await handle.writeFile(`${made.secret}\n`);
  await handle.sync();
  return made;
}

async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', 0o600);
  } catch (reason) {
    const errno = errnoOf(reason);
    throw new BuilderdError(
      'usage.invalid',
      `Cannot write ${JSON.stringify(path)}: ${errno === 'EEXIST' ? 'it is there already' : errno}`,
      { cause: reason },
    );
  }
}
