import type { Dirent } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import type { DurableIo, Owner } from './durable-io.ts';

/** One path component of ours: no slash, no NUL, never `.` or `..`. */
const COMPONENT = /^\.?[A-Za-z0-9][A-Za-z0-9._+-]{0,200}$/;

export interface DirectoryWish {
  readonly mode: number;
  readonly owner: Owner | undefined;
}

/**
 * An open directory. Names below it are reached through its descriptor, one component at a time and
 * never through a symlink: what openat(2) does, which Node lacks.
 */
export class Directory implements AsyncDisposable {
  readonly #io: DurableIo;
  readonly handle: FileHandle;

  private constructor(io: DurableIo, handle: FileHandle) {
    this.#io = io;
    this.handle = handle;
  }

  static async open(io: DurableIo, path: string): Promise<Directory> {
    return new Directory(io, await io.openDirectory(path));
  }

  /** The path of a name in here, good while this is open. */
  at(name: string): string {
    if (!COMPONENT.test(name)) {
      throw new BuilderdError(
        'internal',
        'Cannot use a name in the artifact store: it is not ours',
      );
    }
    return `/proc/self/fd/${this.handle.fd}/${name}`;
  }

  /** Throws the file system's error: ENOENT, ELOOP or ENOTDIR. */
  async child(name: string): Promise<Directory> {
    return new Directory(this.#io, await this.#io.openDirectory(this.at(name)));
  }

  /** Makes it when it is not there, and mends what a crash left half made. Not durable by itself. */
  async childMade(name: string, wish: DirectoryWish): Promise<Directory> {
    try {
      await this.#io.makeDirectory(this.at(name), 0o700);
    } catch (reason) {
      if (errnoOf(reason) !== 'EEXIST') throw reason;
    }
    const child = await this.child(name);
    try {
      const { mode, uid, gid } = await child.handle.stat();
      const { owner } = wish;
      const isOwned = owner === undefined || (owner.userId === uid && owner.groupId === gid);
      if ((mode & 0o7777) !== wish.mode || !isOwned) {
        await this.#io.seal(child.handle, wish.mode, owner);
      }
      return child;
    } catch (reason) {
      await child[Symbol.asyncDispose]();
      throw reason;
    }
  }

  list(): Promise<readonly Dirent[]> {
    return this.#io.list(`/proc/self/fd/${this.handle.fd}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.handle.close();
  }
}
