import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import path from 'node:path';
import { errnoOf } from '../core/errors.ts';

const MAX_LINKS = 40;

/**
 * What is wrong with a place that only the owners may change: whoever may write to a directory on
 * the way can put another thing in its stead. Undefined when nothing is; what does not exist yet is
 * made by us, below what was looked at. `place` is absolute, and is looked at itself, too.
 */
export function whoElseMayChange(place: string, owners: ReadonlySet<number>): string | undefined {
  const walk = new Walk(owners);
  walk.go(path.resolve(place));
  return walk.fact;
}

/** Of one file or directory by itself. */
export function whoElseMayWrite(
  { uid, mode }: Pick<Stats, 'uid' | 'mode'>,
  owners: ReadonlySet<number>,
): string | undefined {
  if (!owners.has(uid)) {
    return owners.size === 1 && owners.has(0)
      ? 'it does not belong to root'
      : `user ${uid} owns it`;
  }
  if ((mode & 0o002) !== 0) return 'everybody may write it';
  return (mode & 0o020) === 0 ? undefined : 'its group may write it';
}

class Walk {
  readonly #owners: ReadonlySet<number>;
  #links = 0;
  fact: string | undefined;

  constructor(owners: ReadonlySet<number>) {
    this.#owners = owners;
  }

  /** Where it leads, or undefined when that is not there or not to be trusted. */
  go(place: string): string | undefined {
    let at = '/';
    for (const part of ['', ...place.split('/').filter((each) => each !== '')]) {
      const next = this.#step(path.join(at, part));
      if (next === undefined) return undefined;
      at = next;
    }
    return at;
  }

  #step(place: string): string | undefined {
    let stat: Stats;
    try {
      stat = lstatSync(place);
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw reason;
    }
    if (stat.isSymbolicLink()) return this.#follow(place, stat);
    // In a sticky directory nobody takes away what is another's (sticky(7)); who made what stands
    // there shows in the next step.
    const sticky = stat.isDirectory() && (stat.mode & 0o1000) !== 0;
    const { uid, mode } = stat;
    this.#judge(place, whoElseMayWrite({ uid, mode: sticky ? 0 : mode }, this.#owners));
    return this.fact === undefined ? place : undefined;
  }

  /** The mode of a link means nothing; its owner made it. */
  #follow(place: string, { uid }: Stats): string | undefined {
    this.#judge(place, whoElseMayWrite({ uid, mode: 0 }, this.#owners));
    this.#links += 1;
    if (this.#links > MAX_LINKS) this.#judge(place, 'it leads through too many links');
    if (this.fact !== undefined) return undefined;
    return this.go(path.resolve(path.dirname(place), readlinkSync(place)));
  }

  #judge(place: string, fact: string | undefined): void {
    if (fact !== undefined) this.fact ??= `of ${place}, ${fact}`;
  }
}
