import type { OpenFile } from '../../core/open-file.ts';
import type { Addon } from '../../../native/addon.ts';
import { BLOCK_SIZE } from './block-file.ts';

/** Bytes written between two nudges: large enough for the disk, small enough to start early. */
const NUDGE_BYTES = 64 * 1024 * 1024;

/**
 * Has the kernel write data to disk while more is produced, so that the fsync at the end finds
 * little left to do. Changes nothing about durability.
 */
export class Writeback {
  readonly #addon: Addon | undefined;
  readonly #handle: OpenFile;
  #pending = 0;
  #from = 0;

  constructor(addon: Addon | undefined, handle: OpenFile) {
    this.#addon = addon;
    this.#handle = handle;
  }

  async advance(bytes: number, endBlock: number): Promise<void> {
    this.#pending += bytes;
    if (this.#pending < NUDGE_BYTES || this.#addon === undefined) return;
    this.#pending = 0;
    const end = endBlock * BLOCK_SIZE;
    await this.#addon.startWriteback(this.#handle.fd, this.#from, end - this.#from);
    this.#from = end;
  }
}
