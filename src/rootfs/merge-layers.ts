import type { Addon } from '../../native/addon.ts';
import type { Digest } from '../core/digest.ts';
import type { ProgressListener } from '../core/progress.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits, TarUsage } from '../tar/limits.ts';
import type { FidelityLog } from './fidelity.ts';
import type { TreeFilter } from './filter/tree-filter.ts';
import { promisedCompression } from './layer/compression.ts';
import { LayerIngest } from './layer/layer-ingest.ts';
import type { ConversionLimits, LayerSource } from './layer/layer-source.ts';
import { type LayerFacts, readLayer } from './layer/read-layer.ts';
import { SlabPool } from './layer/slab-pool.ts';
import type { LayerPolicy } from './merge/layer-builder.ts';
import { LayerMerger } from './merge/layer-merger.ts';
import type { MergeInode } from './merge/node.ts';
import type { SealedTree } from './merge/seal.ts';
import { BLOCK_SIZE, type BlockFile } from './store/block-file.ts';
import { CARRY_BLOCKS } from './store/file-writer.ts';
import { bytesOf } from '../core/bytes.ts';

/** Plain bytes in a slab; part of what makes extents deterministic, so it never depends on the host. */
const SLAB_BYTES = 1024 * 1024;
const SLABS = 6;

export interface MergeLayersOptions {
  readonly file: BlockFile;
  readonly addon: Addon | undefined;
  readonly policy: LayerPolicy;
  readonly limits: ConversionLimits;
  readonly tarLimits?: TarLimits;
  readonly fidelity: FidelityLog;
  readonly filter?: TreeFilter | undefined;
  readonly onProgress: ProgressListener;
  readonly signal: AbortSignal;
}

export interface MergedLayers {
  readonly tree: SealedTree['tree'];
  /** Plain bytes of all layers, and packing found, top first. */
  readonly plainBytes: number;
  readonly layers: readonly (LayerFacts & { readonly digest: Digest })[];
}

/** Reads all layers, top first and each once, into one tree whose file data lies in the block file. */
export async function mergeLayers(
  layers: readonly LayerSource[],
  options: MergeLayersOptions,
): Promise<MergedLayers> {
  const run = new MergeRun(options);
  for (let index = layers.length - 1; index >= 0; index--) {
    const layer = layers[index];
    if (layer !== undefined) await run.readOnce(layer, index);
  }
  const sealed = run.merger.finish();
  for (const [index, wanted] of Map.groupBy(sealed.needed, (inode) => inode.layer)) {
    const layer = layers[index];
    if (layer !== undefined) await run.readAgain(layer, index, wanted);
  }
  run.applyReleases();
  return { tree: sealed.tree, plainBytes: run.plainBytes, layers: run.facts };
}

class MergeRun {
  readonly merger: LayerMerger;
  readonly facts: (LayerFacts & { digest: Digest })[] = [];
  plainBytes = 0;
  readonly #o: MergeLayersOptions;
  readonly #slabs = new SlabPool(SLABS, SLAB_BYTES, CARRY_BLOCKS * BLOCK_SIZE);
  readonly #usage = new TarUsage();
  #released: MergeInode[] = [];

  constructor(options: MergeLayersOptions) {
    this.#o = options;
    this.merger = new LayerMerger({
      policy: options.policy,
      fidelity: options.fidelity,
      filter: options.filter,
      onRelease: (inode) => this.#released.push(inode),
    });
  }

  async readOnce(layer: LayerSource, index: number): Promise<void> {
    const builder = this.merger.beginLayer(index);
    const facts = await this.#read(layer, this.#usage, this.plainBytes, (entry) =>
      builder.apply(entry),
    );
    this.merger.finishLayer(builder, index);
    this.plainBytes += facts.plainBytes;
    this.facts.push({ ...facts, digest: layer.digest });
    const promised = promisedCompression(layer.mediaType);
    if (promised !== undefined && promised !== facts.compression) {
      this.#o.fidelity.note('compression_differs', bytesOf(layer.digest));
    }
    this.applyReleases();
  }

  /** Brings data that was skipped as hidden, for hard links that turned out to show it. */
  async readAgain(layer: LayerSource, index: number, wanted: readonly MergeInode[]): Promise<void> {
    this.#o.fidelity.note('second_read', bytesOf(`layer ${index + 1}`));
    const byOrdinal = new Map(wanted.map((inode) => [inode.ordinal, inode]));
    let ordinal = 0;
    // The same bytes again, as their digest proves: they were counted once.
    await this.#read(layer, new TarUsage(), 0, (entry) => {
      const inode = entry.kind === 'file' ? byOrdinal.get(ordinal++) : undefined;
      if (inode === undefined) return { kind: 'skip' };
      inode.data = 'stored';
      return { kind: 'store', inode };
    });
  }

  /**
   * Gives back blocks of replaced files. Only between layers, when no write is under way: a block
   * is never reused while an older write to it is queued, and the layout does not depend on timing.
   */
  applyReleases(): void {
    for (const { extents } of this.#released) {
      for (let i = 0; i < extents.length; i += 3) {
        this.#o.file.allocator.free({ start: extents[i + 1] ?? 0, count: extents[i + 2] ?? 0 });
      }
    }
    this.#released = [];
  }

  async #read(
    layer: LayerSource,
    usage: TarUsage,
    plainBytesBefore: number,
    decide: ConstructorParameters<typeof LayerIngest>[0]['decide'],
  ): Promise<LayerFacts> {
    const { onProgress } = this.#o;
    const ingest = new LayerIngest({
      ...this.#o,
      slabDataBytes: SLAB_BYTES,
      limits: this.#o.tarLimits ?? DEFAULT_TAR_LIMITS,
      usage,
      decide,
    });
    const base = {
      kind: 'bytes',
      phase: 'convert',
      id: layer.digest,
      totalBytes: layer.size,
    } as const;
    let told = 0;
    const facts = await readLayer(layer, {
      ...this.#o,
      slabs: this.#slabs,
      plainBytesBefore,
      onSlab: (slab, length) => ingest.take(slab, length),
      onBytes: (doneBytes) => {
        if (doneBytes - told < SLAB_BYTES) return;
        told = doneBytes;
        onProgress({ ...base, doneBytes, state: 'running' });
      },
    });
    ingest.finish();
    onProgress({ ...base, doneBytes: layer.size, state: 'done' });
    return facts;
  }
}
