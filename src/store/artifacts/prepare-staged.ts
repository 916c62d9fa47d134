import type { FileHandle } from 'node:fs/promises';
import type { Digest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import { type HashOptions, hashFile } from './hash-file.ts';

export interface Measured {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Throws when the file has changed since: also for a second reading. */
  assertUnchanged(): Promise<void>;
}

/**
 * Size and digest of what an attempt staged, by our own reading. Throws `storage.failed` when the
 * file changes meanwhile: then somebody else still writes to it. `alongside` runs at the same time.
 */
export async function measureStaged(
  handle: FileHandle,
  options: HashOptions,
  alongside: () => Promise<void>,
): Promise<Measured> {
  const before = await handle.stat({ bigint: true });
  if (!before.isFile()) throw odd('it is no regular file');
  const sizeBytes = Number(before.size);
  const [digest] = await Promise.all([hashFile(handle, sizeBytes, options), alongside()]);
  const assertUnchanged = async (): Promise<void> => {
    const after = await handle.stat({ bigint: true });
    if (after.size !== before.size || after.mtimeNs !== before.mtimeNs) {
      throw odd('it was changed while it was read');
    }
  };
  await assertUnchanged();
  return { digest, sizeBytes, assertUnchanged };
}

function odd(fact: string): BuilderdError {
  return new BuilderdError('storage.failed', `Cannot commit the artifact: ${fact}`);
}
