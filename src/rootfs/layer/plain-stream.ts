import { createHash } from 'node:crypto';
import { createReadStream, read } from 'node:fs';
import type { OpenFile } from '../../core/open-file.ts';
import { pipeline, Readable, Transform } from 'node:stream';
import zlib from 'node:zlib';
import type { Addon, FillResult } from '../../../native/addon.ts';
import { type Digest, digestAlgorithm } from '../../core/digest.ts';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import type { Compression } from '../../core/oci.ts';

/** The plain bytes of one layer blob, and the digest of the packed ones. */
export interface PlainStream {
  /**
   * Fills the buffer's first `capacity` bytes; fewer only at the end. Several calls may be under
   * way: they run in order. `bytesIn`: packed bytes read by then.
   */
  fill(into: Buffer, capacity: number): Promise<FillResult>;
  /** Digest of the packed bytes; complete once every fill() is done and one gave less than asked. */
  digest(): Digest;
}

export interface PlainStreamOptions {
  readonly handle: OpenFile;
  readonly compression: Compression;
  /** Names the algorithm to hash the packed bytes with. */
  readonly expected: Digest;
  readonly addon: Addon | undefined;
}

/** 128 MiB, zstd's own default maximum: a larger window is refused before it is allocated (B23). */
const ZSTD_WINDOW_LOG = 27;

/** Opens the fastest way there is: isa-l off the main thread, else node:zlib. */
export function openPlainStream(options: PlainStreamOptions): PlainStream {
  return openNative(options) ?? openNode(options);
}

function openNative({
  handle,
  compression,
  expected,
  addon,
}: PlainStreamOptions): PlainStream | undefined {
  if (addon === undefined || compression === 'zstd' || digestAlgorithm(expected) !== 'sha256')
    return undefined;
  const stream = addon.layerStreamOpen(handle.fd, compression === 'gzip');
  if (stream === null) return undefined;
  return {
    fill: (into, capacity) =>
      addon.layerStreamFill(stream, into, capacity).catch((reason: unknown) => {
        throw streamFault(reason);
      }),
    digest: () => `sha256:${addon.layerStreamResult(stream).digest.toString('hex')}` as Digest,
  };
}

function openNode({ handle, compression, expected }: PlainStreamOptions): PlainStream {
  const algorithm = digestAlgorithm(expected);
  const hash = createHash(algorithm);
  let bytesIn = 0;
  const packed = createReadStream('', {
    fd: handle.fd,
    start: 0,
    // Whoever opened the file closes it; a stream closes what it was given, asked or not.
    fs: { read, close: (_fd: number, done: () => void) => done() },
    highWaterMark: 1 << 18,
  });
  const tap = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytesIn += chunk.length;
      done(null, chunk);
    },
  });
  const plain = decoder(compression);
  const output = plain === undefined ? tap : plain;
  const onEnd = (): void => {};
  if (plain === undefined) pipeline(packed, tap, onEnd);
  else pipeline(packed, tap, plain, onEnd);
  const chunks = Readable.prototype[Symbol.asyncIterator].call(output);
  let rest: Buffer = Buffer.alloc(0);
  async function fillNow(into: Buffer, capacity: number): Promise<FillResult> {
    let length = 0;
    while (length < capacity) {
      if (rest.length === 0) {
        const next = await chunks.next().catch((reason: unknown) => {
          throw streamFault(reason);
        });
        if (next.done === true) break;
        rest = next.value as Buffer;
      }
      const count = rest.copy(into, length, 0, Math.min(rest.length, capacity - length));
      length += count;
      rest = rest.subarray(count);
    }
    return { length, bytesIn };
  }
  let last: Promise<unknown> = Promise.resolve();
  return {
    fill(into, capacity) {
      const filled = last.then(() => fillNow(into, capacity));
      last = filled;
      return filled;
    },
    digest: () => `${algorithm}:${hash.copy().digest('hex')}` as Digest,
  };
}

function decoder(compression: Compression): Transform | undefined {
  const options = { chunkSize: 1 << 18 };
  if (compression === 'gzip') return zlib.createGunzip(options);
  if (compression === 'plain') return undefined;
  return zlib.createZstdDecompress({
    ...options,
    params: { [zlib.constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG },
  });
}

function streamFault(reason: unknown): BuilderdError {
  const code = errnoOf(reason) ?? '';
  if (/^(?:ERR_GZIP|Z_|ERR_ZLIB|ZSTD_)/.test(code)) {
    const fact = reason instanceof Error ? reason.message : String(reason);
    return new BuilderdError('archive.malformed', `Cannot unpack a layer: ${fact}`, {
      cause: reason,
    });
  }
  return new BuilderdError('storage.failed', `Cannot read a layer: ${code || String(reason)}`, {
    cause: reason,
  });
}
