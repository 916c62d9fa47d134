import { stat } from 'node:fs/promises';
import path from 'node:path';
import { BuilderdError } from '../../core/errors.ts';
import type { Identity } from './role-protocol.ts';

/**
 * Whoever can write the settings decides what root runs (MASTER_KEY_COMMAND, sockets, paths): the
 * file and its directory must belong to root, and neither the service user nor everybody may write.
 */
export async function checkConfigFile(file: string, identity: Identity | undefined): Promise<void> {
  if (identity === undefined) return;
  for (const place of [file, path.dirname(path.resolve(file))]) {
    const { uid, gid, mode } = await stat(place);
    const byService = uid === identity.uid || (gid === identity.gid && (mode & 0o020) !== 0);
    const sticky = (mode & 0o1000) !== 0 && place !== file;
    const byAll = (mode & 0o002) !== 0 && !sticky;
    const fact = byService
      ? `${identity.name} may write it`
      : byAll
        ? 'everybody may write it'
        : uid === 0
          ? undefined
          : 'it does not belong to root';
    if (fact === undefined) continue;
    throw new BuilderdError(
      'config.invalid',
      `Cannot take settings from ${JSON.stringify(file)}: ${place === file ? fact : `of its directory, ${fact}`}; want root:root 0640 or stricter`,
    );
  }
}
