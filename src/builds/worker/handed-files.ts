import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf } from '../../core/errors.ts';
import { openDirect } from '../../rootfs/tar-file/output-file.ts';
import type { ConvertJob } from './converter.ts';
import type { JobMessage } from './job-message.ts';
import { FIRST_HANDED_FD } from './launcher.ts';

/** Every descriptor that a worker gets, and what it is called inside. */
export interface HandedFiles extends AsyncDisposable {
  /** In the order in which they are numbered inside, from FIRST_HANDED_FD on. */
  readonly descriptors: readonly number[];
  readonly layers: JobMessage['layers'];
  readonly outputs: JobMessage['outputs'];
  readonly scratchFd?: number;
  /** What `scratchFd` is inside. */
  readonly scratch?: FileHandle;
}

/**
 * Opens the layers once each (a worker reads by position, as often as it must) and every output
 * anew: offset and flags of the caller's own descriptors stay out of the worker's hands.
 */
export async function openHandedFiles(job: ConvertJob, signal: AbortSignal): Promise<HandedFiles> {
  await using files = new AsyncDisposableStack();
  const descriptors: number[] = [];
  const hand = (fd: number): number => FIRST_HANDED_FD + descriptors.push(fd) - 1;
  const layers: JobMessage['layers'][number][] = [];
  for (const layer of job.image.layers) {
    const { mediaType, digest, size, diffId } = layer;
    const fd = hand(files.use(await layer.open(signal)).fd);
    layers.push({ mediaType, digest, size, diffId, fd });
  }
  const outputs: JobMessage['outputs'][number][] = [];
  for (const { format, handle, file } of job.outputs) {
    const again = await openAgain(handle);
    const fd = hand(again === undefined ? handle.fd : files.use(again).fd);
    // Inside nobody may open it by its number under /proc: it belongs to another id.
    const direct = format === 'tar' ? await openDirect(handle) : undefined;
    outputs.push({
      format,
      file: file ?? `rootfs.${format}`,
      fd,
      ...(direct === undefined ? {} : { directFd: hand(files.use(direct).fd) }),
    });
  }
  const needsScratch = job.outputs.every(({ format }) => format !== 'ext4');
  const scratch = needsScratch ? files.use(await job.openScratch()) : undefined;
  const kept = files.move();
  return {
    descriptors,
    layers,
    outputs,
    ...(scratch === undefined ? {} : { scratch, scratchFd: hand(scratch.fd) }),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Undefined where this process may not: the caller's own descriptor has to do. */
async function openAgain(handle: FileHandle): Promise<FileHandle | undefined> {
  try {
    return await open(`/proc/self/fd/${handle.fd}`, constants.O_RDWR);
  } catch (reason) {
    if (['EACCES', 'EPERM', 'ENOENT'].includes(errnoOf(reason) ?? '')) return undefined;
    throw reason;
  }
}
