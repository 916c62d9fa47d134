import { constants, type Dirent } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rmdir, unlink } from 'node:fs/promises';

/**
 * Every call of the local store that must reach the disk, or that a disk can refuse. Tests put a
 * layer in here that fails the n-th call. Paths lead through a directory's descriptor
 * (`/proc/self/fd/N/name`), so that the last part alone is looked up.
 */
export interface DurableIo {
  /** Fails on anything that is there already, a symlink included. Read and write, mode 0600. */
  readonly openNew: (path: string) => Promise<FileHandle>;
  /** Never follows a symlink in the last part; does not wait on a FIFO. */
  readonly openForReading: (path: string) => Promise<FileHandle>;
  readonly openDirectory: (path: string) => Promise<FileHandle>;
  readonly makeDirectory: (path: string, mode: number) => Promise<void>;
  readonly list: (path: string) => Promise<readonly Dirent[]>;
  readonly sync: (handle: FileHandle) => Promise<void>;
  /** Owner and mode that a finished file keeps. */
  readonly seal: (handle: FileHandle, mode: number, owner: Owner | undefined) => Promise<void>;
  /** All of `length` bytes, or a fault. */
  readonly write: (
    handle: FileHandle,
    bytes: Uint8Array,
    length: number,
    position: number,
  ) => Promise<void>;
  /** As many bytes as there are, up to `length`. */
  readonly read: (
    handle: FileHandle,
    into: Uint8Array,
    length: number,
    position: number,
  ) => Promise<number>;
  readonly link: (from: string, to: string) => Promise<void>;
  readonly unlink: (path: string) => Promise<void>;
  readonly removeDirectory: (path: string) => Promise<void>;
}

export interface Owner {
  readonly userId: number;
  readonly groupId: number;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;

export const diskIo: DurableIo = {
  openNew: (path) => open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600),
  openForReading: (path) => open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
  openDirectory: (path) => open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
  makeDirectory: (path, mode) => mkdir(path, mode),
  list: (path) => readdir(path, { withFileTypes: true }),
  sync: (handle) => handle.sync(),
  async seal(handle, mode, owner) {
    if (owner !== undefined) await handle.chown(owner.userId, owner.groupId);
    await handle.chmod(mode);
  },
  async write(handle, bytes, length, position) {
    for (let done = 0; done < length; ) {
      const { bytesWritten } = await handle.write(bytes, done, length - done, position + done);
      done += bytesWritten;
    }
  },
  async read(handle, into, length, position) {
    let done = 0;
    while (done < length) {
      const { bytesRead } = await handle.read(into, done, length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  },
  link: (from, to) => link(from, to),
  unlink: (path) => unlink(path),
  removeDirectory: (path) => rmdir(path),
};
