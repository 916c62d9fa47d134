import { createHash } from 'node:crypto';
import { BuilderdError } from './errors.ts';

/** `sha256:<64 lower-case hex>` or `sha512:<128>`: OCI image-spec, descriptor.md, "Digests". */
export type Digest = string & { readonly __brand: 'Digest' };

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** Throws `source.invalid` for anything but the two digest forms that the OCI registers. */
export function parseDigest(text: unknown, what = 'digest'): Digest {
  if (typeof text === 'string' && isDigest(text)) return text;
  const shown = JSON.stringify(text)?.slice(0, 100) ?? String(text);
  throw new BuilderdError(
    'source.invalid',
    `Cannot use ${what} ${shown}: not sha256:<64 hex> or sha512:<128 hex>`,
  );
}

export function digestAlgorithm(digest: Digest): 'sha256' | 'sha512' {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512';
}

export function digestHex(digest: Digest): string {
  return digest.slice(7);
}

export function sha256(...parts: readonly (Uint8Array | string)[]): Digest {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return `sha256:${hash.digest('hex')}` as Digest;
}
