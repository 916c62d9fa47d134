import type { OpenFile } from '../core/open-file.ts';
import type { Addon } from '../../native/addon.ts';
import type { ByteString } from '../core/bytes.ts';
import { type Digest, digestHex, sha256 } from '../core/digest.ts';
import { BuilderdError } from '../core/errors.ts';
import type { ProgressListener } from '../core/progress.ts';
import { addToTree } from './add-to-tree.ts';
import { digestFile } from './digest-file.ts';
import type { SizePolicy } from './ext4/layout.ts';
import { writeExt4 } from './ext4/writer.ts';
import { FidelityLog, type FidelityReport } from './fidelity.ts';
import { filterIdentity, type FilterSpec } from './filter/filter-spec.ts';
import { TreeFilter } from './filter/tree-filter.ts';
import type { TreeAddition } from './guest/plan-guest-files.ts';
import type { ConversionLimits, LayerSource } from './layer/layer-source.ts';
import { mergeLayers } from './merge-layers.ts';
import type { LayerPolicy } from './merge/layer-builder.ts';
import { FileBlockAllocator } from './store/block-allocator.ts';
import { BLOCK_SIZE, type BlockFile } from './store/block-file.ts';
import { readContent } from './store/content.ts';
import { writeTar } from './tar-file/write-tar.ts';
import type { Inode, MergedTree } from './tree.ts';

export interface Ext4OutputOptions {
  readonly size: SizePolicy;
  readonly label: string;
  /** 16 bytes; derived from the layers when absent. */
  readonly uuid?: Buffer;
  readonly journal: boolean;
  readonly lostFound: boolean;
}

/** An artifact to write, into an empty file open for reading and writing. */
export type OutputSpec =
  | { readonly format: 'ext4'; readonly handle: OpenFile; readonly options: Ext4OutputOptions }
  | {
      readonly format: 'tar';
      readonly handle: OpenFile;
      /** The same file once more, opened with O_DIRECT by who may; else it is tried here. */
      readonly direct?: OpenFile;
    };

/** What a caller may look at between the merge and the writing. */
export interface TreeView {
  readonly tree: MergedTree;
  readFile(inode: Inode): Promise<Buffer>;
}

export interface ConvertOptions {
  /** Bottom to top. */
  readonly layers: readonly LayerSource[];
  readonly outputs: readonly OutputSpec[];
  /** An empty, unlinked file for data while no ext4 output can hold it. The caller closes it. */
  readonly openScratch: () => Promise<OpenFile>;
  readonly policy: LayerPolicy;
  /** What of the image stays out; what `prepare` adds does not ask it. */
  readonly filter?: FilterSpec | undefined;
  /** What else makes this another disk than one of the same layers; empty for nothing. */
  readonly identity?: string;
  readonly limits: ConversionLimits;
  readonly addon: Addon | undefined;
  /** Looks at the merged tree and says what to add to it. */
  readonly prepare?: (view: TreeView) => Promise<readonly TreeAddition[]>;
  readonly onProgress: ProgressListener;
  readonly signal: AbortSignal;
}

export interface ConvertedArtifact {
  readonly format: OutputSpec['format'];
  readonly sizeBytes: number;
  readonly digest: Digest;
}

export interface ConvertResult {
  readonly counts: MergedTree['counts'];
  /** Plain bytes of all layers. */
  readonly plainBytes: number;
  readonly fidelity: FidelityReport;
  /** Patterns of the filter that nothing in the image matches. */
  readonly unmatchedPatterns: readonly string[];
  /** In the order of the outputs. Every file is hashed and fsynced. */
  readonly artifacts: readonly ConvertedArtifact[];
}

/**
 * Layers in, artifacts out: one merge, then every format from it. File data goes straight to its
 * place in the ext4 image (or a scratch file); other formats copy from there. On a fault the
 * output files hold rubbish: the caller publishes nothing.
 */
export async function convertImage(options: ConvertOptions): Promise<ConvertResult> {
  const { outputs, limits, onProgress } = options;
  const ext4 = outputs.find((output) => output.format === 'ext4');
  const file: BlockFile = {
    handle: ext4?.handle ?? (await options.openScratch()),
    allocator: new FileBlockAllocator({ limit: blockLimit(limits, ext4) }),
    isScratch: ext4 === undefined,
  };
  const fidelity = new FidelityLog();
  const filter = filterOf(options);
  onProgress({ kind: 'phase', phase: 'convert', state: 'started' });
  const merged = await mergeLayers(options.layers, { ...options, file, fidelity, filter });
  const view: TreeView = {
    tree: merged.tree,
    readFile: (inode) => readContent(options.addon, file.handle, inode),
  };
  const additions = (await options.prepare?.(view)) ?? [];
  const tree = await addToTree(merged.tree, additions, file, fidelity);
  onProgress({
    kind: 'phase',
    phase: 'convert',
    state: 'done',
    detail: `${tree.counts.entries} entries`,
  });
  onProgress({ kind: 'phase', phase: 'write', state: 'started' });
  const artifacts = await writeAll(tree, file, fidelity, options);
  onProgress({ kind: 'phase', phase: 'write', state: 'done' });
  return {
    counts: tree.counts,
    plainBytes: merged.plainBytes,
    fidelity: fidelity.report(),
    unmatchedPatterns: filter?.unmatched() ?? [],
    artifacts,
  };
  function blockLimit(bounds: ConversionLimits, output: OutputSpec | undefined): number {
    const fixed = output?.format === 'ext4' && output.options.size.kind === 'fixed';
    const bytes = fixed
      ? Math.max(output.options.size.bytes, BLOCK_SIZE)
      : 2 * bounds.maxPlainBytes;
    return Math.floor(bytes / BLOCK_SIZE);
  }
}

function filterOf({ filter }: ConvertOptions): TreeFilter | undefined {
  return filter === undefined || filterIdentity(filter) === '' ? undefined : new TreeFilter(filter);
}

/** ext4 metadata first, then the slow endings side by side: hash, fsync, copies into other formats. */
async function writeAll(
  tree: MergedTree,
  file: BlockFile,
  fidelity: FidelityLog,
  options: ConvertOptions,
): Promise<ConvertedArtifact[]> {
  const endings: Promise<PromiseSettledResult<ConvertedArtifact>>[] = [];
  try {
    for (const output of options.outputs) {
      if (output.format === 'ext4') {
        const written = await writeExt4(tree, file, ext4Options(output.options, options));
        const { sizeBytes, clampedTimes } = written;
        if (clampedTimes > 0) fidelity.note('ext4_time_clamped', '' as ByteString, clampedTimes);
        endings.push(
          finish(output, sizeBytes, digestFile(options.addon, output.handle, sizeBytes)),
        );
      }
    }
    for (const output of options.outputs) {
      if (output.format !== 'tar') continue;
      const { sizeBytes, digest } = await writeTar(tree, file, output.handle, {
        ...options,
        direct: output.direct,
      });
      endings.push(finish(output, sizeBytes, Promise.resolve(digest)));
    }
  } finally {
    // Also after a fault: no job may still use a descriptor that the caller is going to close.
    await Promise.all(endings);
  }
  return (await Promise.all(endings)).map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

/** Settles, never rejects: nobody listens before the other outputs are written. */
async function finish(
  output: OutputSpec,
  sizeBytes: number,
  digesting: Promise<Digest>,
): Promise<PromiseSettledResult<ConvertedArtifact>> {
  const [digest, synced] = await Promise.allSettled([digesting, output.handle.sync()]);
  if (digest.status === 'rejected') return digest;
  if (synced.status === 'rejected') return synced;
  return {
    status: 'fulfilled',
    value: { format: output.format, sizeBytes, digest: digest.value },
  };
}

function ext4Options(
  { uuid, ...rest }: Ext4OutputOptions,
  { layers, policy, filter, identity: other = '', signal }: ConvertOptions,
): Parameters<typeof writeExt4>[2] {
  if (Buffer.byteLength(rest.label) > 16) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot label the disk "${rest.label}": at most 16 bytes fit`,
    );
  }
  const parts: string[] = layers.map((layer) => layer.diffId);
  const filtered = filter === undefined ? '' : filterIdentity(filter);
  if (filtered !== '') parts.push(filtered);
  if (other !== '') parts.push(other);
  const identity = parts.join('\n');
  return {
    ...rest,
    uuid: uuid ?? derivedUuid('uuid', identity),
    hashSeed: derivedUuid('hash seed', identity),
    timestampSec: policy.sourceDateEpoch ?? 0,
    signal,
  };
}

/** A version 8 UUID (RFC 9562 5.8): equal content gives equal bytes. */
function derivedUuid(use: string, identity: string): Buffer {
  const uuid = Buffer.from(
    digestHex(sha256(`builderd ext4 ${use}\n`, identity)).slice(0, 32),
    'hex',
  );
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return uuid;
}
