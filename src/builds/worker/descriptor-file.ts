import { fstat, fsync, ftruncate, read, write } from 'node:fs';
import { promisify } from 'node:util';
import type { OpenFile } from '../../core/open-file.ts';

const readAt = promisify(read);
const writeAt = promisify(write);
const stat = promisify(fstat);
const truncate = promisify(ftruncate);
const sync = promisify(fsync);

/** A descriptor that this process was started with. Disposal leaves it open: it is lent. */
export function descriptorFile(fd: number): OpenFile {
  return {
    fd,
    read: (into, offset, length, position) => readAt(fd, into, offset, length, position),
    write: (from, offset, length, position) => writeAt(fd, from, offset, length, position),
    stat: async () => ({ size: (await stat(fd)).size }),
    truncate: (length) => truncate(fd, length),
    sync: () => sync(fd),
    async [Symbol.asyncDispose]() {
      // The process ends soon, and its descriptors with it.
    },
  };
}
