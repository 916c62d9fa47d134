import type { Digest } from './digest.ts';

/** OCI content descriptor (image-spec descriptor.md), validated. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. A safe, non-negative integer. */
  readonly size: number;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** How a layer blob's bytes are packed. Known from the magic, never from the media type alone. */
export type Compression = 'gzip' | 'zstd' | 'plain';
