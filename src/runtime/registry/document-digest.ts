import { createHash } from 'node:crypto';
import { type Digest, digestAlgorithm, parseDigest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';

/** The digest of the bytes, by the algorithm of `like`. */
export function digestLike(like: Digest, bytes: Buffer): Digest {
  const algorithm = digestAlgorithm(like);
  return parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
}

/** Throws `source.digest_mismatch`. */
export function requireDigest(expected: Digest, bytes: Buffer, what: string): void {
  const computed = digestLike(expected, bytes);
  if (computed === expected) return;
  throw new BuilderdError(
    'source.digest_mismatch',
    `Cannot use ${what}: it was promised as ${expected} but is ${computed}`,
  );
}
