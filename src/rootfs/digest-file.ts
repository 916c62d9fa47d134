import { createHash } from 'node:crypto';
import type { OpenFile } from '../core/open-file.ts';
import type { Addon } from '../../native/addon.ts';
import type { Digest } from '../core/digest.ts';
import { BuilderdError } from '../core/errors.ts';

/** SHA-256 of a finished file. With the addon it runs beside the fsync and skips holes. */
export async function digestFile(
  addon: Addon | undefined,
  handle: OpenFile,
  size: number,
): Promise<Digest> {
  if (addon !== undefined) {
    return `sha256:${(await addon.sha256File(handle.fd, size)).toString('hex')}` as Digest;
  }
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - at), at);
    if (bytesRead === 0)
      throw new BuilderdError(
        'storage.failed',
        'Cannot hash the artifact: it is shorter than expected',
      );
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return `sha256:${hash.digest('hex')}` as Digest;
}
