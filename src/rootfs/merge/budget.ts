import { BuilderdError } from '../../core/errors.ts';

/** A directory costs memory like an entry, but its archive may name a thousand in one entry. */
const MAX_IMPLIED_DIRECTORIES = 500_000;
/**
 * One name may pass 40 symlinks of 2,000 parts each (as on Linux), and an archive may hold two
 * million such names: hours of walking. Honest images walk a few parts for a few names.
 */
const MAX_SYMLINK_PARTS = 20_000_000;

/** What one image may make the merge do beyond its entries; shared by all its layers. */
export class MergeBudget {
  #impliedDirectories = 0;
  #symlinkParts = 0;

  countImpliedDirectory(): void {
    if (++this.#impliedDirectories <= MAX_IMPLIED_DIRECTORIES) return;
    throw new BuilderdError(
      'archive.limit',
      `Cannot merge the layers: more than ${MAX_IMPLIED_DIRECTORIES} directories have no entry of their own`,
    );
  }

  countSymlink(parts: number): void {
    this.#symlinkParts += parts;
    if (this.#symlinkParts <= MAX_SYMLINK_PARTS) return;
    throw new BuilderdError(
      'archive.limit',
      `Cannot merge the layers: names pass symlinks with more than ${MAX_SYMLINK_PARTS} parts altogether`,
    );
  }
}
