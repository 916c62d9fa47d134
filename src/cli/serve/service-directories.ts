import { constants } from 'node:fs';
import { access, chown, lstat, mkdir, open, readdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { BuilderdError, errnoOf, messageOf } from '../../core/errors.ts';
import type { Settings } from '../config.ts';
import { whoElseMayChange } from '../trusted-path.ts';
import type { Identity } from './role-protocol.ts';

interface Place {
  readonly setting: string;
  readonly directory: string;
  readonly mode: number;
  /** `service`: the API writes here. `root`: only the executor does; the group may look. */
  readonly owner: 'service' | 'root';
}

/** The guide's directories, who owns them and who may look. */
export function servicePlaces(settings: Settings): Place[] {
  return [
    {
      setting: 'DATABASE_DATA_DIR',
      directory: settings.DATABASE_DATA_DIR,
      mode: 0o700,
      owner: 'service',
    },
    {
      setting: 'ROOTFS_OUTPUT_DIR',
      directory: settings.ROOTFS_OUTPUT_DIR,
      mode: 0o750,
      owner: 'root',
    },
    { setting: 'CACHE_DIR', directory: settings.CACHE_DIR, mode: 0o750, owner: 'root' },
    { setting: 'WORKSPACE_DIR', directory: settings.WORKSPACE_DIR, mode: 0o750, owner: 'root' },
    { setting: 'SCRATCH_DIR', directory: settings.SCRATCH_DIR, mode: 0o750, owner: 'root' },
    { setting: 'RUN_DIR', directory: settings.RUN_DIR, mode: 0o750, owner: 'root' },
  ];
}

/**
 * Makes what is missing and gives each directory the owner and mode that it needs. Of what is inside
 * only the database's files are touched, when root made them before the service ever ran. Throws `config.invalid` for a place that is no directory of its own.
 */
export async function prepareDirectories(
  settings: Settings,
  identity: Identity | undefined,
  onFurther: (fault: BuilderdError) => void = () => undefined,
): Promise<void> {
  let first: BuilderdError | undefined;
  for (const place of servicePlaces(settings)) {
    try {
      await prepare(place, identity);
    } catch (reason) {
      const fault =
        reason instanceof BuilderdError ? reason : notOurs(place, messageOf(reason), reason);
      if (first === undefined) first = fault;
      else onFurther(fault);
    }
  }
  if (first !== undefined) throw first;
}

/** Only when it is missing: one that exists may be /var/log itself. */
export async function makeLogDirectory(
  file: string,
  identity: Identity | undefined,
): Promise<void> {
  const directory = path.dirname(file);
  try {
    const made = await mkdir(directory, { recursive: true, mode: 0o750 });
    if (made !== undefined && identity !== undefined)
      await chown(directory, identity.uid, identity.gid);
  } catch (reason) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot use ${file} for UNKEY_BUILDERD_LOG_FILE: ${messageOf(reason)}`,
      { cause: reason },
    );
  }
}

async function prepare(place: Place, identity: Identity | undefined): Promise<void> {
  const { directory, mode, owner } = place;
  if (identity !== undefined) {
    const owners = new Set(owner === 'service' ? [0, identity.uid] : [0]);
    const above = whoElseMayChange(path.dirname(directory), owners);
    if (above !== undefined) throw notOurs(place, above);
  }
  // Parents are for everyone to pass; what they hold is not.
  await mkdir(path.dirname(directory), { recursive: true, mode: 0o755 });
  try {
    await mkdir(directory, { mode });
  } catch (reason) {
    if (errnoOf(reason) !== 'EEXIST') throw reason;
  }
  if ((await lstat(directory)).isSymbolicLink()) throw notOurs(place, 'it is a symbolic link');
  const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
  // By descriptor: what is looked at is what is changed.
  const handle = await open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    const stat = await handle.stat();
    if (identity === undefined) {
      if (stat.uid !== process.getuid?.()) throw notOurs(place, 'it belongs to another user');
    } else {
      const uid = owner === 'service' ? identity.uid : 0;
      if (owner === 'service' && stat.uid === 0) await handOver(directory, stat.mode, identity);
      if (stat.uid !== uid || stat.gid !== identity.gid) await handle.chown(uid, identity.gid);
    }
    if ((stat.mode & 0o7777) !== mode) await handle.chmod(mode);
    // For root this is a file system that is mounted read-only, and nothing else.
    await access(directory, constants.W_OK);
  } finally {
    await handle.close();
  }
}

/** Magic numbers of statfs(2). */
const IN_MEMORY = new Set([0x0102_1994, 0x8584_58f6]);
/** What must outlive a restart of the host. */
const LASTING = new Set(['DATABASE_DATA_DIR', 'ROOTFS_OUTPUT_DIR']);

/** What a service can run with and an operator should know, a sentence for each place. */
export async function questionablePlaces(settings: Settings): Promise<string[]> {
  const found: string[] = [];
  for (const { setting, directory } of servicePlaces(settings)) {
    const { type, blocks, bavail, files, ffree } = await statfs(directory);
    const tell = (fact: string): number =>
      found.push(`${directory} (UNKEY_BUILDERD_${setting}) ${fact}`);
    if (LASTING.has(setting) && IN_MEMORY.has(type >>> 0)) {
      tell('is in memory: what it holds is lost when the host restarts');
    }
    if (blocks > 0 && bavail === 0) tell('is on a file system that is full');
    // Some file systems make inodes as they need them, and count none.
    else if (files > 0 && ffree === 0) tell('is on a file system without a free inode');
  }
  return found;
}

/**
 * `builderd migrate` may have run as root in a directory of root's: the service user must be able to
 * open what it left. Nobody else could put anything there, or it is not touched.
 */
async function handOver(directory: string, mode: number, { uid, gid }: Identity): Promise<void> {
  if ((mode & 0o022) !== 0) return;
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const handle = await open(path.join(directory, entry.name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const stat = await handle.stat();
      if (stat.isFile() && stat.uid === 0 && stat.nlink === 1) await handle.chown(uid, gid);
    } finally {
      await handle.close();
    }
  }
}

function notOurs({ directory, setting }: Place, fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use ${directory} for UNKEY_BUILDERD_${setting}: ${fact}`,
    { cause },
  );
}
