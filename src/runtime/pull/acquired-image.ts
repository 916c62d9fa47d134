import type { FileHandle } from 'node:fs/promises';
import type { Digest } from '../../core/digest.ts';
import type { Descriptor, Platform } from '../../core/oci.ts';
import type { ProgressListener } from '../../core/progress.ts';

/** Where an image comes from. */
export type ImageSource =
  | { readonly kind: 'registry'; readonly reference: string }
  | { readonly kind: 'oci-layout'; readonly path: string; readonly tag?: string }
  | { readonly kind: 'oci-archive'; readonly path: string; readonly tag?: string }
  | { readonly kind: 'docker-archive'; readonly path: string; readonly tag?: string };

export interface AcquireOptions {
  readonly platform: Platform;
  readonly pullPolicy: 'always' | 'missing' | 'never';
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

export interface LayerBlob extends Descriptor {
  readonly diffId: Digest;
  /** A fresh read-only descriptor at offset 0. Bytes unverified. */
  open(signal: AbortSignal): Promise<FileHandle>;
}

/** An image whose blobs are all in the store and stay there until disposal. */
export interface AcquiredImage extends AsyncDisposable {
  readonly reference: string;
  readonly target: Descriptor;
  readonly manifest: Descriptor;
  readonly configDescriptor: Descriptor;
  readonly config: Buffer;
  readonly platform: Platform;
  /** Bottom to top. */
  readonly layers: readonly LayerBlob[];
}
