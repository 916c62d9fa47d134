import { lstat, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import { holdFileLock } from '../../store/service-lock.ts';
import { FIRST_ID_BASE, IDS_PER_BUILD } from './id-ranges.ts';

/** Ranges of one service: more than a host converts at once, with room for some that linger. */
export const RANGES_PER_POOL = 256;
export const IDS_PER_POOL = RANGES_PER_POOL * IDS_PER_BUILD;
const POOLS = 16;
/** One place for all services of the host, whatever their own directories are. */
const LOCKS = '/run/builderd-ids';

/** Ids that no other service of this host gives to its workers, until disposal or death. */
export interface IdPool extends Disposable {
  readonly first: number;
}

/**
 * Takes a pool: the one from `first` on, or any that is free. Whoever has it holds the lock of a file
 * where only root can make one, so that no other user of the host can keep the service from starting.
 * Throws `config.invalid` while another process has it, `host.permission` where others could take it.
 */
export async function claimIdPool(first: number | undefined, locks = LOCKS): Promise<IdPool> {
  await openLocks(locks);
  if (first !== undefined) {
    const claimed = await claim(locks, first);
    if (claimed !== undefined) return claimed;
    throw new BuilderdError(
      'config.invalid',
      `Cannot give workers the ids from ${first} on: another service of this host does; give each its own UNKEY_BUILDERD_WORKER_ID_BASE, ${IDS_PER_POOL} apart, or none`,
    );
  }
  for (let i = 0; i < POOLS; i++) {
    const claimed = await claim(locks, FIRST_ID_BASE + i * IDS_PER_POOL);
    if (claimed !== undefined) return claimed;
  }
  throw new BuilderdError(
    'config.invalid',
    `Cannot find ids for workers: ${POOLS} services of this host have them all; name others in UNKEY_BUILDERD_WORKER_ID_BASE`,
  );
}

/** Undefined when another process has it. */
async function claim(locks: string, first: number): Promise<IdPool | undefined> {
  const lock = await holdFileLock(path.join(locks, `${first}.lock`));
  return lock && { first, [Symbol.dispose]: () => lock[Symbol.dispose]() };
}

async function openLocks(directory: string): Promise<void> {
  await mkdir(directory, { mode: 0o700 }).catch((reason: unknown) => {
    if (errnoOf(reason) !== 'EEXIST') throw reason;
  });
  const stat = await lstat(directory);
  if (stat.isDirectory() && stat.uid === process.geteuid?.() && (stat.mode & 0o077) === 0) return;
  throw new BuilderdError(
    'host.permission',
    `Cannot lock user ids in "${directory}": it must be a directory of root that nobody else may enter`,
  );
}
