import type { Addon } from '../../../native/addon.ts';
import type { TarEntry } from '../../tar/entry.ts';
import type { TarLimits, TarUsage } from '../../tar/limits.ts';
import { TarParser } from '../../tar/parser.ts';
import type { DataFate } from '../merge/layer-builder.ts';
import type { MergeInode } from '../merge/node.ts';
import type { BlockFile } from '../store/block-file.ts';
import { FileWriter } from '../store/file-writer.ts';
import { PieceList, writePieces } from '../store/piece-writer.ts';
import { Writeback } from '../store/writeback.ts';

export interface LayerIngestOptions {
  readonly addon: Addon | undefined;
  readonly file: BlockFile;
  readonly slabDataBytes: number;
  readonly limits: TarLimits;
  readonly usage: TarUsage;
  /** Decides, entry by entry, what becomes of its data. */
  readonly decide: (entry: TarEntry) => DataFate;
}

/** Parses one layer's slabs and writes the data that is to be kept to the block file, in order. */
export class LayerIngest {
  readonly #o: LayerIngestOptions;
  readonly #parser: TarParser;
  readonly #writer: FileWriter;
  readonly #writeback: Writeback;
  #storing: MergeInode | undefined;
  /** Lists to use again: a new one for each slab is 24 KiB of garbage. */
  readonly #spare: PieceList[] = [];
  #writes: Promise<void> = Promise.resolve();

  constructor(options: LayerIngestOptions) {
    this.#o = options;
    this.#writer = new FileWriter(options.file);
    this.#writeback = new Writeback(
      options.file.isScratch === true ? undefined : options.addon,
      options.file.handle,
    );
    this.#parser = new TarParser(
      {
        entry: (entry) => this.#entry(entry),
        data: (chunk, start, end, offset) => {
          if (this.#storing !== undefined) this.#writer.write(chunk, start, end, offset);
        },
        fileEnd: () => this.#fileEnd(),
      },
      options.limits,
      options.usage,
    );
  }

  /** Parses at once; the promise settles when the slab's data is written. */
  async take(slab: Buffer, length: number): Promise<void> {
    const pieces = this.#spare.pop() ?? new PieceList();
    this.#writer.useSlab(slab, this.#o.slabDataBytes, pieces);
    this.#parser.push(slab.subarray(0, length));
    if (pieces.count === 0) return;
    this.#writes = this.#writes.then(async () => {
      await writePieces(this.#o.addon, this.#o.file.handle, slab, pieces);
      await this.#writeback.advance(pieces.bytes, this.#o.file.allocator.end);
    });
    await this.#writes;
    pieces.clear();
    this.#spare.push(pieces);
  }

  finish(): void {
    this.#parser.finish();
  }

  #entry(entry: TarEntry): void {
    const fate = this.#o.decide(entry);
    this.#storing = fate.kind === 'store' ? fate.inode : undefined;
    if (this.#storing !== undefined) this.#writer.begin(this.#storing.size);
  }

  #fileEnd(): void {
    if (this.#storing === undefined) return;
    this.#storing.extents = this.#writer.finish();
    this.#storing = undefined;
  }
}
