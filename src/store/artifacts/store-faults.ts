import { asBuilderdError, BuilderdError, errnoOf } from '../../core/errors.ts';

const BROKEN_DISK = new Set(['EIO', 'EROFS', 'ENODEV', 'ENXIO', 'ESTALE', 'EBADMSG', 'EUCLEAN']);
const ODD_PATH = new Set(['ELOOP', 'ENOTDIR', 'EISDIR', 'EXDEV']);

/** The one translation of what a file system answers; paths stay out of the messages. */
export function storeFault(reason: unknown, doing: string): BuilderdError {
  if (reason instanceof BuilderdError) return reason;
  const errno = errnoOf(reason) ?? '';
  if (BROKEN_DISK.has(errno)) {
    return new BuilderdError('storage.failed', `Cannot ${doing}: the disk answered ${errno}`, {
      cause: reason,
    });
  }
  if (ODD_PATH.has(errno)) {
    return new BuilderdError(
      'storage.failed',
      `Cannot ${doing}: a part of the path is not what builderd made there (${errno})`,
      { cause: reason },
    );
  }
  return asBuilderdError(reason, doing);
}

/** For readers of a copy that a row promises. */
export function readFault(reason: unknown): BuilderdError {
  if (errnoOf(reason) === 'ENOENT') {
    return new BuilderdError('artifact.missing', 'Cannot open the artifact: its file is gone', {
      cause: reason,
    });
  }
  return storeFault(reason, 'read the artifact');
}

export function corrupt(fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'artifact.corrupt',
    `Cannot read the artifact: ${fact}`,
    cause === undefined ? {} : { cause },
  );
}
