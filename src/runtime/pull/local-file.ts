import { constants, type FileHandle, open } from 'node:fs/promises';
import { BuilderdError, errnoOf, messageOf } from '../../core/errors.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { collectBytes } from './collect-bytes.ts';

const READ_BYTES = 1024 * 1024;

export interface LocalFile extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly size: number;
}

/** Opens a regular file and nothing else: a FIFO or a device would hang or never end. */
export async function openLocalFile(path: string, what: string): Promise<LocalFile> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (reason) {
    throw openFault(what, reason);
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) {
      throw new BuilderdError('source.invalid', `Cannot read ${what}: it is not a regular file`);
    }
    return { handle, size: stat.size, [Symbol.asyncDispose]: () => handle.close() };
  } catch (reason) {
    await handle.close();
    throw reason;
  }
}

/** The bytes `[start, end)`; fewer when the file ends before. Each chunk is a fresh buffer. */
export async function* readRange(
  file: LocalFile,
  start: number,
  end: number,
  call: { readonly signal: AbortSignal },
): AsyncGenerator<Buffer, void, void> {
  for (let at = start; at < end; ) {
    throwIfAborted(call.signal, 'read the image file');
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
    const { bytesRead } = await file.handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** A whole small range in memory. Throws `source.too_large` above `maxBytes`. */
export async function readWhole(
  file: LocalFile,
  range: { readonly start: number; readonly size: number },
  maxBytes: number,
  what: string,
  call: { readonly signal: AbortSignal },
): Promise<Buffer> {
  if (range.size > maxBytes) {
    throw new BuilderdError(
      'source.too_large',
      `Cannot read ${what}: it has ${range.size} bytes, the limit is ${maxBytes}`,
    );
  }
  return collectBytes(readRange(file, range.start, range.start + range.size, call));
}

function openFault(what: string, reason: unknown): BuilderdError {
  const errno = errnoOf(reason);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    return new BuilderdError('source.not_found', `Cannot read ${what}: there is no such file`, {
      cause: reason,
    });
  }
  const code = errno === 'EACCES' || errno === 'EPERM' ? 'host.permission' : 'source.invalid';
  return new BuilderdError(code, `Cannot read ${what}: ${errno ?? messageOf(reason)}`, {
    cause: reason,
  });
}
