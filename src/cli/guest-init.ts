import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { BuilderdError, messageOf } from '../core/errors.ts';
import type { Io } from './io.ts';

/** An init is a small static program; more than this is a mistake. */
const MAX_INIT_BYTES = 64 * 1024 * 1024;

/** Who names the program, and what it is to be blamed as. */
interface NamedBy {
  readonly name: string;
  readonly code: 'usage.invalid' | 'config.invalid';
}

const FLAG: NamedBy = { name: '--guest-init', code: 'usage.invalid' };

/** Reads the program that `--guest-init` names: the operator's own file, so symlinks are followed. */
export async function readGuestInit(
  path: string,
  io: Pick<Io, 'signal'>,
  { name, code }: NamedBy = FLAG,
): Promise<Buffer> {
  const refused = (fact: string, cause?: unknown): BuilderdError =>
    new BuilderdError(
      code,
      `Cannot use ${name} ${JSON.stringify(path)}: ${fact}`,
      cause === undefined ? {} : { cause },
    );
  // Opened before it is looked at, so that what was checked is what is read.
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (reason: unknown) => {
      throw refused(messageOf(reason), reason);
    },
  );
  const stat = await handle.stat();
  if (!stat.isFile()) throw refused('it is not a regular file');
  if (stat.size === 0) throw refused('it is empty');
  if (stat.size > MAX_INIT_BYTES) throw refused(`it is larger than ${MAX_INIT_BYTES} bytes`);
  return await handle.readFile({ signal: io.signal });
}

/** The same for the service, by its setting; nothing where that is unset. */
export async function readInitSetting(
  path: string,
  io: Pick<Io, 'signal'>,
): Promise<{ readonly guestInit?: Buffer }> {
  if (path === '') return {};
  const setting = { name: 'UNKEY_BUILDERD_GUEST_INIT', code: 'config.invalid' } as const;
  return { guestInit: await readGuestInit(path, io, setting) };
}
