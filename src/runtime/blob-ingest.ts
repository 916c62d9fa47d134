import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../core/digest.ts';
import { BuilderdError } from '../core/errors.ts';
import type { Descriptor } from '../core/oci.ts';
import { throwIfAborted } from '../core/scope.ts';
import type { IngestOptions } from './blob-store.ts';
import type { Content } from './content.ts';
import type { OpenIngest } from './content-writer.ts';
import { isLocked } from './grpc-fault.ts';
import type { NamespacedCall } from './rpc-channel.ts';

/** Measured best from Node: smaller ones cost messages, larger ones copies. */
const CHUNK_BYTES = 1024 * 1024;
/** Another client writes the same blob: 16 ms doubling to 2 s, about two minutes in all. */
const LOCK_TRIES = 70;
const LOCK_FIRST_DELAY_MS = 16;
const LOCK_MAX_DELAY_MS = 2000;

export type Fetch = (offset: number) => AsyncIterable<Buffer>;

/** What is left under a reference after a failure. */
export type IngestRemains = 'none' | 'resumable';

/**
 * The name under which containerd's own clients keep the ingest of a blob, so that we and they
 * wait for each other instead of fetching twice.
 */
export function ingestRef({ mediaType, digest }: Descriptor): string {
  return `${refKind(mediaType)}-${digest}`;
}

function refKind(mediaType: string): string {
  if (/\.(?:image\.)?index\.v1\+json$|\.manifest\.list\.v2\+json$/.test(mediaType)) return 'index';
  if (/\.manifest\.v[12]\+json$/.test(mediaType)) return 'manifest';
  if (/\.config\.v1\+json$|\.container\.image\.v1\+json$/.test(mediaType)) return 'config';
  return /\.layer\.|\.rootfs\./.test(mediaType) ? 'layer' : 'unknown';
}

/** The writer for a blob, after waiting out other writers. `exists` once the blob is there. */
export async function openIngest(
  content: Content,
  descriptor: Descriptor,
  call: NamespacedCall,
  exists: () => Promise<boolean>,
): Promise<OpenIngest | 'exists'> {
  const target = { ...descriptor, ref: ingestRef(descriptor) };
  for (let attempt = 1; ; attempt++) {
    try {
      return await content.openWriter(target, call);
    } catch (reason) {
      if (await exists()) return 'exists';
      if (!isLocked(reason) || attempt === LOCK_TRIES) throw reason;
    }
    const delayMs = Math.min(LOCK_MAX_DELAY_MS, LOCK_FIRST_DELAY_MS * 2 ** (attempt - 1));
    await pause(delayMs * (0.5 + Math.random() / 2), call.signal, descriptor.digest);
  }
}

/**
 * Streams what is missing, checks size and digest, commits. A reference whose bytes cannot become
 * the blob any more is reported as such through `onRemains`, before this throws.
 */
export async function writeBlob(
  { writer, state }: OpenIngest,
  descriptor: Descriptor,
  fetch: Fetch,
  options: IngestOptions,
  onRemains: (remains: IngestRemains) => void,
): Promise<void> {
  const { digest, size } = descriptor;
  throwIfAborted(options.signal, `store blob ${digest}`);
  if (state.offset > size) {
    onRemains('none');
    throw sizeFault(descriptor, `an earlier attempt left ${state.offset} bytes`);
  }
  onRemains('resumable');
  let offset = state.offset;
  if (offset < size || size === 0) {
    for await (const chunk of gather(
      fetch(offset),
      size - offset,
      () => onRemains('none'),
      descriptor,
    )) {
      throwIfAborted(options.signal, `store blob ${digest}`);
      await writer.write(offset, chunk);
      offset += chunk.length;
      options.onBytes?.(offset);
    }
  }
  const end = await writer.state();
  onRemains('none');
  if (end.offset !== size) {
    throw sizeFault(descriptor, `containerd holds ${end.offset} bytes`);
  }
  if (end.digest !== digest) {
    throw new BuilderdError(
      'source.digest_mismatch',
      `Cannot store blob ${digest}: the ${size} bytes have digest ${end.digest}`,
    );
  }
  await writer.commit(options.labels ?? {});
}

/** The source in pieces of CHUNK_BYTES; throws unless it gives exactly `wantBytes`. */
async function* gather(
  source: AsyncIterable<Buffer>,
  wantBytes: number,
  onBadSize: () => void,
  descriptor: Descriptor,
): AsyncGenerator<Buffer, void, void> {
  let received = 0;
  let piece = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, wantBytes));
  let filled = 0;
  for await (const chunk of source) {
    received += chunk.length;
    if (received > wantBytes) {
      onBadSize();
      throw sizeFault(descriptor, 'the source serves more');
    }
    for (let at = 0; at < chunk.length; ) {
      const copied = chunk.copy(piece, filled, at);
      at += copied;
      filled += copied;
      if (filled === piece.length) {
        yield piece;
        const left = wantBytes - received + (chunk.length - at);
        piece = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, left));
        filled = 0;
      }
    }
  }
  if (received < wantBytes) {
    onBadSize();
    throw sizeFault(descriptor, `the source ended ${wantBytes - received} bytes early`);
  }
}

function sizeFault({ digest, size }: Descriptor, fact: string): BuilderdError {
  return new BuilderdError(
    'source.size_mismatch',
    `Cannot store blob ${digest}: want ${size} bytes, but ${fact}`,
  );
}

async function pause(delayMs: number, signal: AbortSignal, digest: Digest): Promise<void> {
  try {
    await sleep(delayMs, undefined, { signal });
  } catch (reason) {
    throwIfAborted(signal, `store blob ${digest}`);
    throw reason;
  }
}
