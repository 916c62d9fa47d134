import type { FileHandle } from 'node:fs/promises';
import type { Digest } from '../core/digest.ts';
import type { Descriptor } from '../core/oci.ts';

export interface StoreCall {
  readonly signal: AbortSignal;
}

export interface IngestOptions extends StoreCall {
  /** containerd labels (gc.ref…, distribution.source…); made by us, never copied from an image. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Cumulative bytes stored so far, resumed ones included. */
  readonly onBytes?: (doneBytes: number) => void;
}

/** Content-addressed blobs of one containerd namespace, used under one lease. */
export interface BlobStore {
  /** The stored size, or undefined. A blob that is there is also attached to the lease. */
  stat(digest: Digest, call: StoreCall): Promise<{ size: number } | undefined>;
  /**
   * Stores one blob; a blob already there is a no-op. Reads from `fetch(offset)`, where the
   * offset is what an earlier broken attempt left (0 at first). Size and digest are verified
   * before the commit; on any failure nothing is left under the digest.
   * Throws `source.digest_mismatch`, `source.size_mismatch`, and what `fetch` throws.
   */
  ingest(
    descriptor: Descriptor,
    fetch: (offset: number) => AsyncIterable<Buffer>,
    options: IngestOptions,
  ): Promise<void>;
  /** All bytes of a small blob, digest verified. Throws `source.too_large` above `maxBytes`. */
  read(descriptor: Descriptor, maxBytes: number, call: StoreCall): Promise<Buffer>;
  /**
   * A fresh read-only descriptor at offset 0: containerd's own blob file where a probe showed
   * that we may open it, else an unlinked scratch copy made through Content.Read. The bytes are
   * NOT verified: whoever reads them hashes them (architecture D4).
   */
  open(descriptor: Descriptor, call: StoreCall): Promise<FileHandle>;
  setLabels(
    digest: Digest,
    labels: Readonly<Record<string, string>>,
    call: StoreCall,
  ): Promise<void>;
}

export interface ImageRecord {
  readonly name: string;
  readonly target: Descriptor;
}

export interface ImageRecords {
  get(name: string, call: StoreCall): Promise<ImageRecord | undefined>;
  /** Creates or replaces. */
  put(record: ImageRecord, call: StoreCall): Promise<void>;
  /** Says that the image is in use. A record that is gone is a no-op. */
  touch(name: string, call: StoreCall): Promise<void>;
}

/** One unit of work against containerd: everything it creates hangs on one lease until disposal. */
export interface StoreSession extends AsyncDisposable {
  readonly blobs: BlobStore;
  readonly images: ImageRecords;
}
