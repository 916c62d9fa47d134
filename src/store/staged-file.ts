import { randomBytes } from 'node:crypto';
import { type FileHandle, lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { asBuilderdError, BuilderdError, errnoOf } from '../core/errors.ts';

/** A file that gets its name only when it is complete. Disposal without publish() removes it. */
export interface StagedFile extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly finalPath: string;
  /**
   * Fsyncs the file, gives it its final name (replacing an older file) and fsyncs the directory.
   * Only after this returns does the artifact survive a power cut.
   */
  publish(): Promise<void>;
}

/**
 * Opens a new file beside `finalPath` under a hidden name (".<name>.<random>.partial"). A crash
 * leaves that name behind, never a half file under the final one. Creates the directory.
 * Refuses at once what publish() must not replace: root's `-o /dev/null` would cost the device,
 * `-o /dev/stdout` the link.
 */
export async function stageFile(finalPath: string, { mode = 0o644 } = {}): Promise<StagedFile> {
  await refuseOddTarget(finalPath);
  const directory = path.dirname(finalPath);
  const name = `.${path.basename(finalPath)}.${randomBytes(6).toString('hex')}.partial`;
  const staged = path.join(directory, name);
  const handle = await openNew(staged, finalPath, mode);
  let isOpen = true;
  let isPublished = false;
  return {
    handle,
    finalPath,
    async publish() {
      try {
        await handle.sync();
        await handle.close();
        isOpen = false;
        await rename(staged, finalPath);
        isPublished = true;
        await syncDirectory(directory);
      } catch (reason) {
        throw publishFault(reason, finalPath);
      }
    },
    async [Symbol.asyncDispose]() {
      if (isOpen) await handle.close();
      if (!isPublished) await rm(staged, { force: true });
    },
  };
}

/** What a crash between the making and the unlinking of a scratch file leaves. */
export const SCRATCH_NAME = /^\.scratch\.[0-9a-f]{12}\.partial$/;

/** An unlinked file on the same file system as `beside`: gone when the handle is closed. */
export async function openScratch(beside: string): Promise<FileHandle> {
  const file = path.join(
    path.dirname(beside),
    `.scratch.${randomBytes(6).toString('hex')}.partial`,
  );
  const handle = await openNew(file, beside, 0o600);
  try {
    await rm(file);
  } catch (reason) {
    await handle.close();
    throw publishFault(reason, beside);
  }
  return handle;
}

export async function syncDirectory(directory: string): Promise<void> {
  await using handle = await open(directory, 'r');
  await handle.sync();
}

async function refuseOddTarget(finalPath: string): Promise<void> {
  const old = await lstat(finalPath).catch((reason: unknown) => {
    if (errnoOf(reason) === 'ENOENT') return undefined;
    throw publishFault(reason, finalPath);
  });
  if (old === undefined || old.isFile()) return;
  throw new BuilderdError(
    'usage.invalid',
    `Cannot write "${finalPath}": it is ${old.isDirectory() ? 'a directory' : 'not a regular file'}`,
  );
}

async function openNew(file: string, finalPath: string, mode: number): Promise<FileHandle> {
  try {
    await mkdir(path.dirname(file), { recursive: true });
    return await open(file, 'wx+', mode);
  } catch (reason) {
    throw publishFault(reason, finalPath);
  }
}

function publishFault(reason: unknown, finalPath: string): BuilderdError {
  const errno = errnoOf(reason);
  if (errno === 'EISDIR' || errno === 'ENOTDIR' || errno === 'EEXIST') {
    return new BuilderdError(
      'usage.invalid',
      `Cannot write "${finalPath}": ${errno === 'EISDIR' ? 'it is a directory' : 'a part of the path is not a directory'}`,
      { cause: reason },
    );
  }
  return asBuilderdError(reason, `write "${finalPath}"`);
}
