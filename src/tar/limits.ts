/** Bounds that hold while an archive is read. A figure that is exceeded is `archive.limit`. */
export interface TarLimits {
  /** Members of all archives that share one TarUsage, global headers included. */
  readonly maxEntries: number;
  /** Declared size of one PAX or GNU long-name body. */
  readonly maxMetaBytes: number;
  readonly maxPathBytes: number;
  readonly maxComponentBytes: number;
  readonly maxDepth: number;
  /** Names and link targets together, over one TarUsage: they stay in memory in the merged tree. */
  readonly maxTotalNameBytes: number;
  readonly maxXattrValueBytes: number;
  readonly maxXattrsPerEntryBytes: number;
  readonly maxXattrTotalBytes: number;
  readonly maxSparseSegments: number;
  /** Logical size of one file. */
  readonly maxFileBytes: number;
  /** Logical sizes of all files over one TarUsage: holes of sparse files count too. */
  readonly maxTotalLogicalBytes: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** Path figures are Linux's own (PATH_MAX - 1, NAME_MAX); a larger one could not be unpacked. */
export const DEFAULT_TAR_LIMITS: TarLimits = {
  maxEntries: 2_000_000,
  maxMetaBytes: MIB,
  maxPathBytes: 4095,
  maxComponentBytes: 255,
  maxDepth: 1024,
  maxTotalNameBytes: 512 * MIB,
  maxXattrValueBytes: 64 * KIB,
  maxXattrsPerEntryBytes: 256 * KIB,
  maxXattrTotalBytes: 64 * MIB,
  maxSparseSegments: 100_000,
  maxFileBytes: 50 * GIB,
  maxTotalLogicalBytes: 50 * GIB,
};

/**
 * What has been read so far. Give the same object to the parsers of all layers of one build and
 * the totals of TarLimits hold for the build, not for each layer.
 */
export class TarUsage {
  entries = 0;
  nameBytes = 0;
  xattrBytes = 0;
  logicalBytes = 0;
}
