import type { FileHandle } from 'node:fs/promises';
import { BuilderdError } from '../../core/errors.ts';

/** A staged file whose writer is gone, held to that. */
export interface WatchedFile {
  readonly sizeBytes: number;
  /** Throws `storage.failed` when it has changed since: then somebody still writes to it. */
  assertUnchanged(): Promise<void>;
}

export async function watchStaged(handle: FileHandle): Promise<WatchedFile> {
  const before = await handle.stat({ bigint: true });
  if (!before.isFile()) throw odd('it is no regular file');
  return {
    sizeBytes: Number(before.size),
    async assertUnchanged() {
      const after = await handle.stat({ bigint: true });
      if (after.size !== before.size || after.mtimeNs !== before.mtimeNs) {
        throw odd('it was changed while it was read');
      }
    },
  };
}

function odd(fact: string): BuilderdError {
  return new BuilderdError('storage.failed', `Cannot commit the artifact: ${fact}`);
}
