import type { Digest } from '../core/digest.ts';
import type { Descriptor, Platform } from '../core/oci.ts';
import type { OpenFile } from '../core/open-file.ts';
import type { ProgressListener } from '../core/progress.ts';

/** Where an image comes from, with its transport; made by `parseSource` in the sources room. */
export type ImageSource =
  | { readonly kind: 'registry'; readonly reference: string }
  | { readonly kind: 'oci-layout'; readonly path: string; readonly tag?: string }
  | { readonly kind: 'oci-archive'; readonly path: string; readonly tag?: string }
  | { readonly kind: 'docker-archive'; readonly path: string; readonly tag?: string };

export type PullPolicy = 'always' | 'missing' | 'never';

export interface AcquireOptions {
  readonly platform: Platform;
  readonly pullPolicy: PullPolicy;
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

export interface LayerBlob extends Descriptor {
  /** Digest of the uncompressed tar, from the image config. */
  readonly diffId: Digest;
  /** A fresh read-only descriptor at offset 0; may be called more than once. Bytes unverified. */
  open(signal: AbortSignal): Promise<OpenFile>;
}

/** An image whose blobs are all in the store and stay there until disposal. */
export interface AcquiredImage extends AsyncDisposable {
  /** Normalised reference, for people and metadata. */
  readonly reference: string;
  /** What the reference resolved to: an index or a manifest. */
  readonly target: Descriptor;
  readonly manifest: Descriptor;
  readonly configDescriptor: Descriptor;
  /** The config document as stored, already checked to be strict JSON and an image config. */
  readonly config: Buffer;
  readonly platform: Platform;
  /** Bottom to top. */
  readonly layers: readonly LayerBlob[];
}

export interface ImageRepository {
  /** Resolves the source and pulls what is missing. Nothing is left behind on failure. */
  acquire(source: ImageSource, options: AcquireOptions): Promise<AcquiredImage>;
}
