import type { Descriptor } from '../../core/oci.ts';

export interface OriginCall {
  readonly signal: AbortSignal;
}

/** One image at its source. Everything it gives is bounded, but only documents are verified. */
export interface ImageOrigin extends AsyncDisposable {
  /** Normalised, for people and metadata. */
  readonly reference: string;
  /** Labels that say where blobs came from; made by us. */
  readonly labels: Readonly<Record<string, string>>;
  /** The index or manifest that the source stands for now. */
  resolve(call: OriginCall): Promise<Descriptor>;
  /** A manifest or an index; size and digest verified. */
  document(descriptor: Descriptor, call: OriginCall): Promise<Buffer>;
  /** The bytes of a config or layer from `offset` on; never more than the descriptor's size. */
  blob(descriptor: Descriptor, offset: number, call: OriginCall): AsyncIterable<Buffer>;
}
