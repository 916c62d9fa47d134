import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { asBuilderdError } from '../../core/errors.ts';

/**
 * The secret of the first operator, for root and the service user alone. Written whole or not at
 * all; what an earlier start left there is replaced, for its token is of no use any more.
 */
export async function writeFirstToken(file: string, secret: string): Promise<void> {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  try {
    await rm(file, { force: true });
    await using handle = await open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    if (process.geteuid?.() === 0) {
      await using directory = await open(path.dirname(file), 'r');
      const { uid, gid } = await directory.stat();
      await handle.chown(uid, gid);
    }
    await handle.writeFile(`${secret}\n`);
    await handle.sync();
  } catch (reason) {
    throw asBuilderdError(reason, `write the first operator token to ${file}`);
  }
}
