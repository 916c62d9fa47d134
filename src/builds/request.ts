import type { Platform } from '../core/oci.ts';
import type { FilterSpec } from '../rootfs/filter/filter-spec.ts';
import type { RuntimeOverrides } from '../rootfs/image-config/runtime-overrides.ts';
import type { ImageSource, PullPolicy } from './ports.ts';

/** Formats that this version writes. */
export const FORMATS = ['ext4', 'tar'] as const;
export type Format = (typeof FORMATS)[number];

/** How large an ext4 disk becomes. */
export type SizePolicy =
  /** Exactly what the content needs, plus `extraBytes` of free space. */
  | { readonly kind: 'min'; readonly extraBytes: number }
  /** This many bytes; `artifact.too_small` when the content does not fit. */
  | { readonly kind: 'fixed'; readonly bytes: number };

export interface BuildRequest {
  readonly source: ImageSource;
  readonly platform: Platform;
  readonly pullPolicy: PullPolicy;
  readonly formats: readonly Format[];
  /** A file for one format, a directory for several (see architecture section 4, `-o`). */
  readonly output: { readonly kind: 'file' | 'directory'; readonly path: string };
  readonly ext4: {
    readonly size: SizePolicy;
    /** At most 16 bytes; empty for none. */
    readonly label: string;
    /** 16 bytes; derived from the content when absent, so that equal input gives equal bytes. */
    readonly uuid?: Buffer;
    readonly journal: boolean;
    readonly lostFound: boolean;
  };
  /** Adds the guest contract (init files and mount points) to the tree. */
  readonly guestFiles: boolean;
  /** What becomes of device nodes: all kept, all dropped, or only the standard harmless ones. */
  readonly devices: 'keep' | 'standard' | 'drop';
  /** What of the image stays out; everything stays in when absent. */
  readonly filter?: FilterSpec;
  /** What the guest runs in place of what the image says. */
  readonly runtime?: RuntimeOverrides;
  /** Later modification times are clamped to this many seconds since 1970. */
  readonly sourceDateEpoch?: number;
}

export interface ArtifactResult {
  readonly format: Format;
  readonly path: string;
  readonly sizeBytes: number;
  readonly digest: string;
}

export interface BuildResult {
  readonly reference: string;
  readonly imageDigest: string;
  readonly artifacts: readonly ArtifactResult[];
  readonly metadataPath: string;
  readonly fidelityPath: string;
  readonly durationMs: number;
}
