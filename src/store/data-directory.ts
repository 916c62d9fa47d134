import { constants } from 'node:fs';
import { lstat, mkdir, open, statfs } from 'node:fs/promises';
import path from 'node:path';
import { asBuilderdError, BuilderdError, errnoOf } from '../core/errors.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const FILE_NAME = 'builderd.db';

export function databaseFile(directory: string): string {
  return path.join(directory, FILE_NAME);
}

/** Magic numbers of statfs(2) whose locks SQLite cannot rely on (sqlite.org/faq.html#q5). */
const NETWORK_FILE_SYSTEMS = new Map<number, string>([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xfe534d42, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0x5346414f, 'AFS'],
  [0x73757245, 'Coda'],
  [0x564c, 'NCP'],
  [0x01021997, '9P'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x786f4256, 'VirtualBox shared folders'],
]);

/** Its name, or undefined for a local one; `type` as statfs(2) gives it, which may be negative. */
export function networkFileSystem(type: number): string | undefined {
  return NETWORK_FILE_SYSTEMS.get(type >>> 0);
}

/**
 * Makes the directory (0700) if there is none, with `owner` when root makes it for the service
 * user, and refuses one that others may read, that is not ours, a symlink, or on a network file
 * system. Repeating is a no-op. Throws `host.permission`, `host.unsupported`.
 */
export async function prepareDataDirectory(
  directory: string,
  { owner }: { readonly owner?: Owner } = {},
): Promise<void> {
  const doing = `use the data directory "${directory}"`;
  try {
    const isNew = await makeDirectory(directory, 0o700);
    await using handle = await openDirectory(directory);
    if (isNew && owner !== undefined) await handle.chown(owner.uid, owner.gid);
    const { uid, mode } = await handle.stat();
    refuseOthers({ uid, mode, name: directory, want: '0700' }, owner);
    const kind = networkFileSystem((await statfs(directory)).type);
    if (kind !== undefined) {
      throw new BuilderdError(
        'host.unsupported',
        `Cannot ${doing}: it is on ${kind}, where two hosts could destroy the database; use a local disk, or PostgreSQL`,
      );
    }
  } catch (reason) {
    throw pathFault(reason, doing);
  }
}

/**
 * Makes the file (0600, owned by the directory's owner, also when root makes it: SQLite gives the
 * files beside it the same owner) and refuses what is not a plain private file.
 */
export async function prepareDataFile(
  file: string,
  { create }: { readonly create: boolean },
): Promise<void> {
  const doing = `use the database file "${file}"`;
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    const old = await lstat(file).catch((reason: unknown) => {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw reason;
    });
    if (old !== undefined) {
      if (!old.isFile() || old.nlink !== 1) {
        throw new BuilderdError(
          'host.permission',
          `Cannot ${doing}: it is ${old.isSymbolicLink() ? 'a symlink' : 'not a plain file with one name'}`,
        );
      }
      refuseOthers({ uid: old.uid, mode: old.mode, name: file, want: '0600' });
      return;
    }
    if (!create) {
      throw new BuilderdError('database.schema', `Cannot ${doing}: there is none yet`);
    }
    await using handle = await open(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    const { uid, gid } = await lstat(path.dirname(file));
    if (process.geteuid?.() === 0) await handle.chown(uid, gid);
  } catch (reason) {
    // Another process was faster: it has done the same.
    if (errnoOf(reason) === 'EEXIST') return;
    throw pathFault(reason, doing);
  }
}

/**
 * True when it was made, with the parents that were missing. Node's own recursive mkdir never ends
 * where the kernel answers ENOENT for a name that cannot be made, as below /proc.
 */
async function makeDirectory(directory: string, mode: number): Promise<boolean> {
  for (let tries = 1; ; tries += 1) {
    try {
      await mkdir(directory, { mode });
      return true;
    } catch (reason) {
      const errno = errnoOf(reason);
      if (errno === 'EEXIST') return false;
      const parent = path.dirname(directory);
      if (errno !== 'ENOENT' || tries > 1 || parent === directory) throw reason;
      await makeDirectory(parent, 0o755);
    }
  }
}

async function openDirectory(directory: string): ReturnType<typeof open> {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  try {
    return await open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (reason) {
    const errno = errnoOf(reason);
    if (errno !== 'ELOOP' && errno !== 'ENOTDIR') throw reason;
    throw new BuilderdError(
      'host.permission',
      `Cannot use the data directory "${directory}": it is a symlink or no directory`,
      { cause: reason },
    );
  }
}

/** Whatever the system says of the path, somebody has to look at the path. */
function pathFault(reason: unknown, doing: string): BuilderdError {
  const fault = asBuilderdError(reason, doing);
  if (fault.code !== 'internal' || errnoOf(reason) === undefined) return fault;
  return new BuilderdError('host.permission', fault.message, { cause: reason });
}

function refuseOthers(
  found: {
    readonly uid: number;
    readonly mode: number;
    readonly name: string;
    readonly want: string;
  },
  owner?: Owner,
): void {
  const self = process.geteuid?.() ?? 0;
  const allowed = owner?.uid ?? self;
  // Root works for the service user, whose files they are.
  if (found.uid !== allowed && (self !== 0 || owner !== undefined)) {
    throw new BuilderdError(
      'host.permission',
      `Cannot use "${found.name}": its owner is ${found.uid}, want ${allowed}`,
    );
  }
  if ((found.mode & 0o077) === 0) return;
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  throw new BuilderdError(
    'host.permission',
    `Cannot use "${found.name}": others may reach it (mode ${mode}); run chmod ${found.want} ${JSON.stringify(found.name)}`,
  );
}
