import { access, constants, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { ok, warn, type Check } from './check.ts';

export interface DiskPlace {
  /** Name of the setting, or what the directory is for. */
  readonly name: string;
  readonly path: string;
}

/** Less is not enough for the tar and the disk of a usual image. */
const LOW_BYTES = 2 * 1024 ** 3;

/** Magic numbers of statfs(2) that matter here. */
const FILE_SYSTEMS = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x794c7630, 'overlay'],
  [0x6969, 'nfs'],
  [0x2fc12fc1, 'zfs'],
  [0xf2f52010, 'f2fs'],
  [0x65735546, 'fuse'],
  [0x01021997, '9p'],
]);
/** Renaming and syncing there do not promise what a published artifact needs. */
const WEAK = new Set(['nfs', 'fuse', '9p']);

export async function checkDisks(places: readonly DiskPlace[]): Promise<Check[]> {
  return await Promise.all(places.map(checkDisk));
}

async function checkDisk({ name, path }: DiskPlace): Promise<Check> {
  const id = `disk.${name}`;
  const existing = await nearestExisting(path);
  const note = existing === path ? path : `${path} (to be made in ${existing})`;
  try {
    const stat = await statfs(existing);
    const freeBytes = stat.bavail * stat.bsize;
    const type = FILE_SYSTEMS.get(stat.type) ?? `file system 0x${stat.type.toString(16)}`;
    const fact = `${note}: ${formatBytes(freeBytes)} free on ${type}`;
    if (freeBytes < LOW_BYTES) return warn(id, fact, 'Free space, or choose another disk.');
    if (WEAK.has(type)) {
      return warn(id, fact, 'Use a local disk: renames and syncs are weaker on this one.');
    }
    if (type === 'tmpfs') return warn(id, fact, 'Artifacts there use memory and end with a boot.');
    return ok(id, fact);
  } catch (reason) {
    return warn(id, `${note}: ${messageOf(reason)}`, 'Check owner and mode of the directory.');
  }
}

async function nearestExisting(path: string): Promise<string> {
  let here = path;
  while (here !== dirname(here)) {
    const there = await access(here, constants.F_OK).then(
      () => true,
      () => false,
    );
    if (there) return here;
    here = dirname(here);
  }
  return here;
}
