import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Addon } from '../../../native/addon.ts';
import { errnoOf } from '../../core/errors.ts';
import type { OpenFile } from '../../core/open-file.ts';
import { BLOCK_SIZE } from '../store/block-file.ts';
import { Writeback } from '../store/writeback.ts';

/** What a file system says that has no O_DIRECT, or wants another alignment (open(2)). */
const NO_DIRECT = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOENT', 'EACCES', 'EPERM']);

/**
 * Writes whole slabs past the page cache: a large artifact that nobody reads at once would only
 * push others' pages out, and on a virtual machine each fresh page costs more than the write.
 * What does not fit, and file systems that cannot, go the usual way.
 */
export class OutputFile implements AsyncDisposable {
  readonly #handle: OpenFile;
  readonly #writeback: Writeback;
  readonly #direct: OpenFile | undefined;
  readonly #closing: AsyncDisposable | undefined;

  private constructor(
    addon: Addon | undefined,
    handle: OpenFile,
    direct: OpenFile | undefined,
    closing: AsyncDisposable | undefined,
  ) {
    this.#handle = handle;
    this.#direct = direct;
    this.#closing = closing;
    this.#writeback = new Writeback(direct === undefined ? addon : undefined, handle);
  }

  /**
   * `handle` stays the caller's, and so does `direct`, a second descriptor of the same file with
   * O_DIRECT. Without one it is opened, and closed, here; who may not open it goes without.
   */
  static async open(
    addon: Addon | undefined,
    handle: OpenFile,
    direct?: OpenFile,
  ): Promise<OutputFile> {
    // Only the addon gives memory that is aligned as O_DIRECT wants it.
    if (addon === undefined) return new OutputFile(addon, handle, undefined, undefined);
    if (direct !== undefined) return new OutputFile(addon, handle, direct, undefined);
    const own = await openDirect(handle);
    return new OutputFile(addon, handle, own, own);
  }

  /** Writes at a position; several may be under way. Direct only for page-aligned memory. */
  async write(bytes: Buffer, length: number, position: number): Promise<void> {
    let done = 0;
    if (this.#direct !== undefined && length % BLOCK_SIZE === 0) {
      done = await this.#writeDirect(this.#direct, bytes, length, position);
    }
    while (done < length) {
      const left = length - done;
      const { bytesWritten } = await this.#handle.write(bytes, done, left, position + done);
      done += bytesWritten;
    }
    await this.#writeback.advance(length, Math.floor((position + length) / BLOCK_SIZE));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closing?.[Symbol.asyncDispose]();
  }

  /** Bytes written: all, or 0 when this file takes no direct writes after all. */
  async #writeDirect(
    direct: OpenFile,
    bytes: Buffer,
    length: number,
    position: number,
  ): Promise<number> {
    try {
      const { bytesWritten } = await direct.write(bytes, 0, length, position);
      return bytesWritten - (bytesWritten % BLOCK_SIZE);
    } catch (reason) {
      if (!NO_DIRECT.has(errnoOf(reason) ?? '')) throw reason;
      return 0;
    }
  }
}

/** A second descriptor of the same file that goes past the page cache, where that can be had. */
export async function openDirect(handle: OpenFile): Promise<FileHandle | undefined> {
  try {
    return await open(`/proc/self/fd/${handle.fd}`, constants.O_WRONLY | constants.O_DIRECT);
  } catch (reason) {
    if (NO_DIRECT.has(errnoOf(reason) ?? '')) return undefined;
    throw reason;
  }
}
