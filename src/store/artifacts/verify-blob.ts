import { setTimeout as sleep } from 'node:timers/promises';
import { type BuilderdError, isBuilderdError, messageOf } from '../../core/errors.ts';
import type { ArtifactStore } from './artifact-store.ts';
import type { BlobRecord } from './blob-rows.ts';

export type BlobVerdict =
  | { readonly kind: 'sound' }
  | { readonly kind: 'missing' }
  | { readonly kind: 'corrupt'; readonly fact: string };

export interface VerifyOptions {
  /** `size`: it is there, with the right length. `content`: every byte is read and hashed. */
  readonly depth: 'size' | 'content';
  /** Reads no faster than this. */
  readonly bytesPerSecond?: number;
  readonly signal: AbortSignal;
}

/** Whether a copy is what its row says. Throws when that could not be found out. */
export async function verifyBlob(
  store: ArtifactStore,
  blob: BlobRecord,
  options: VerifyOptions,
): Promise<BlobVerdict> {
  try {
    const found = await store.storedSize(blob.tenantId, blob, options);
    if (found === undefined) return { kind: 'missing' };
    if (found !== blob.storedBytes) {
      return { kind: 'corrupt', fact: `${found} bytes are stored instead of ${blob.storedBytes}` };
    }
    if (options.depth === 'content') await readThrough(store, blob, options);
    return { kind: 'sound' };
  } catch (reason) {
    if (isBuilderdError(reason, 'artifact.missing')) return { kind: 'missing' };
    if (isDamage(reason)) return { kind: 'corrupt', fact: messageOf(reason) };
    throw reason;
  }
}

/** A disk that cannot give the bytes back has lost them, as far as a download is concerned. */
function isDamage(reason: unknown): reason is BuilderdError {
  return isBuilderdError(reason, 'artifact.corrupt') || isBuilderdError(reason, 'storage.failed');
}

async function readThrough(
  store: ArtifactStore,
  blob: BlobRecord,
  { bytesPerSecond, signal }: VerifyOptions,
): Promise<void> {
  const begun = performance.now();
  let done = 0;
  const stream = await store.open(blob.tenantId, blob, { signal, verify: true });
  for await (const chunk of stream) {
    done += chunkLength(chunk);
    if (bytesPerSecond === undefined) continue;
    const early = (done / bytesPerSecond) * 1000 - (performance.now() - begun);
    if (early > 1) await sleep(early, undefined, { signal });
  }
}

const chunkLength = (chunk: unknown): number => (chunk instanceof Uint8Array ? chunk.length : 0);
