import type { OpenFile } from '../../core/open-file.ts';
import type { Digest } from '../../core/digest.ts';
import type { Descriptor } from '../../core/oci.ts';

/** One layer of an image, as the conversion wants it. */
export interface LayerSource extends Descriptor {
  /** Digest of the plain tar, from the image config. */
  readonly diffId: Digest;
  /** A fresh read-only descriptor at offset 0; called again when the layer must be read twice. */
  open(signal: AbortSignal): Promise<OpenFile>;
}

export interface ConversionLimits {
  /** Plain bytes of all layers together. */
  readonly maxPlainBytes: number;
  /**
   * Plain bytes for each packed byte, checked once a layer has given `bombFreeBytes`. gzip cannot
   * pass 1032, and one large file of zeros comes near it: small layers are left alone.
   */
  readonly maxRatio: number;
  readonly bombFreeBytes: number;
}

const GIB = 1024 ** 3;

export const DEFAULT_CONVERSION_LIMITS: ConversionLimits = {
  maxPlainBytes: 50 * GIB,
  maxRatio: 1000,
  bombFreeBytes: GIB,
};
