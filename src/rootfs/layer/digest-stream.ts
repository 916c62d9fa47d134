import { createHash } from 'node:crypto';
import type { Addon } from '../../../native/addon.ts';
import { type Digest, digestAlgorithm } from '../../core/digest.ts';

/** A running digest; updates are made one after another. */
export interface DigestStream {
  update(bytes: Buffer, length: number): Promise<void>;
  digest(): Digest;
}

/** Hashes on libuv's pool when the addon is there, else on the main thread. */
export function openDigest(addon: Addon | undefined, algorithm: 'sha256' | 'sha512'): DigestStream {
  if (addon !== undefined && algorithm === 'sha256') {
    const handle = addon.hasherOpen();
    return {
      async update(bytes, length) {
        await addon.hasherUpdate(handle, bytes, length);
      },
      digest: () => `sha256:${addon.hasherDigest(handle).toString('hex')}` as Digest,
    };
  }
  const hash = createHash(algorithm);
  return {
    async update(bytes, length) {
      hash.update(bytes.subarray(0, length));
    },
    digest: () => `${algorithm}:${hash.digest('hex')}` as Digest,
  };
}

export function openDigestLike(addon: Addon | undefined, expected: Digest): DigestStream {
  return openDigest(addon, digestAlgorithm(expected));
}
