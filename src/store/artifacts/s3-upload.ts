import { createHash } from 'node:crypto';
import { BuilderdError } from '../../core/errors.ts';
import { detachedSignal, throwIfAborted } from '../../core/scope.ts';
import type { PieceSource } from './piece-stream.ts';
import type { S3Client } from './s3-client.ts';
import { answerFault } from './s3-faults.ts';
import { escapeXml, xmlElements, xmlValue } from './s3-xml.ts';

const MIB = 1 << 20;
/** S3 takes parts from 5 MiB on, and at most 10,000 of them. */
const MIN_PART_BYTES = 16 * MIB;
const MAX_PARTS = 9000;
/** Memory that the parts of one upload may take at a time. */
const MAX_PENDING_BYTES = 96 * MIB;
const DOING = 'store the artifact';
const ABORT_MS = 30_000;
const MARK_HEADER = 'x-amz-meta-builderd-copy';

export interface UploadOptions {
  readonly sizeBytes: number;
  /** Kept with the object as metadata: what its maker says that it is. */
  readonly mark: string;
  readonly signal: AbortSignal;
  /** What went wrong while an upload that failed was being taken back. */
  readonly onCleanupFault: (reason: unknown) => void;
  /** For tests of small uploads. */
  readonly minPartBytes?: number;
}

export function partBytes(sizeBytes: number, minPartBytes = MIN_PART_BYTES): number {
  return Math.max(minPartBytes, Math.ceil(sizeBytes / MAX_PARTS / MIB) * MIB);
}

/**
 * Stores all that a source gives under a key. The object appears whole or not at all; an upload that
 * fails is taken back. Each request carries the hash of its bytes, signed.
 */
export async function upload(
  client: S3Client,
  key: string,
  source: PieceSource,
  options: UploadOptions,
): Promise<void> {
  const size = partBytes(options.sizeBytes, options.minPartBytes);
  const parts = inParts(source, size, options.sizeBytes);
  if (options.sizeBytes <= size) {
    const body = (await parts.next()) ?? Buffer.alloc(0);
    await parts.assertEnded();
    const answer = await client.request({
      method: 'PUT',
      key,
      headers: { [MARK_HEADER]: options.mark },
      body,
      doing: DOING,
      signal: options.signal,
    });
    answer.discard();
  } else {
    await uploadParts(client, key, parts, size, options);
  }
  await assertStored(client, key, options);
}

async function uploadParts(
  client: S3Client,
  key: string,
  parts: Parts,
  size: number,
  options: UploadOptions,
): Promise<void> {
  const { signal } = options;
  const begun = await client.text({
    method: 'POST',
    key,
    query: { uploads: '' },
    headers: { [MARK_HEADER]: options.mark },
    doing: DOING,
    signal,
  });
  const uploadId = xmlValue(begun, 'UploadId');
  if (uploadId === undefined || uploadId === '') throw answerFault(200, begun, DOING);
  try {
    const etags = await sendParts(client, { key, uploadId, parts, size, signal });
    await parts.assertEnded();
    await complete(client, { key, uploadId, etags, signal });
  } catch (reason) {
    await abortUpload(client, key, uploadId, detachedSignal(ABORT_MS)).catch(
      options.onCleanupFault,
    );
    throw reason;
  }
}

/** Several parts at a time, as memory allows; the source is read in order. */
async function sendParts(
  client: S3Client,
  use: {
    readonly key: string;
    readonly uploadId: string;
    readonly parts: Parts;
    readonly size: number;
    readonly signal: AbortSignal;
  },
): Promise<readonly string[]> {
  const stop = new AbortController();
  const signal = AbortSignal.any([use.signal, stop.signal]);
  const etags: string[] = [];
  let number = 0;
  let reading: Promise<unknown> = Promise.resolve();
  const readNext = async (): Promise<{ body: Buffer; part: number } | undefined> => {
    throwIfAborted(signal, DOING);
    const body = await use.parts.next();
    return body === undefined ? undefined : { body, part: (number += 1) };
  };
  const worker = async (): Promise<void> => {
    for (;;) {
      const turn = reading.then(readNext);
      reading = turn;
      const next = await turn;
      if (next === undefined) return;
      const { body, part } = next;
      const answer = await client.request({
        method: 'PUT',
        key: use.key,
        query: { partNumber: String(part), uploadId: use.uploadId },
        body,
        bodyHash: createHash('sha256').update(body).digest('hex'),
        doing: DOING,
        signal,
      });
      answer.discard();
      const etag = answer.header('etag');
      if (etag === undefined) throw answerFault(answer.status, '', DOING);
      etags[part - 1] = etag;
    }
  };
  const workers = Math.max(1, Math.min(4, Math.floor(MAX_PENDING_BYTES / use.size)));
  const running = Array.from({ length: workers }, worker);
  try {
    await Promise.all(running);
  } catch (reason) {
    stop.abort(reason);
    await Promise.allSettled(running);
    throw reason;
  }
  return etags;
}

/** A 200 may carry an error in its body, and a lost answer may have been a success. */
async function complete(
  client: S3Client,
  use: {
    readonly key: string;
    readonly uploadId: string;
    readonly etags: readonly string[];
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const parts = use.etags.map(
    (etag, index) =>
      `<Part><PartNumber>${index + 1}</PartNumber><ETag>${escapeXml(etag)}</ETag></Part>`,
  );
  const body = Buffer.from(`<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`);
  const answer = await client.request(
    {
      method: 'POST',
      key: use.key,
      query: { uploadId: use.uploadId },
      headers: { 'content-type': 'application/xml' },
      body,
      doing: DOING,
      signal: use.signal,
    },
    // The upload is gone: an earlier try got through, or not; the size of the object will tell.
    [404],
  );
  if (answer.status === 404) {
    answer.discard();
    return;
  }
  let text = '';
  for await (const chunk of answer.body) text = (text + chunk.toString('utf8')).slice(0, 65_536);
  if (/<Error>/.test(text)) throw answerFault(500, text, DOING);
}

export async function abortUpload(
  client: S3Client,
  key: string,
  uploadId: string,
  signal: AbortSignal,
): Promise<void> {
  const doing = 'take back an upload';
  const answer = await client.request(
    { method: 'DELETE', key, query: { uploadId }, doing, signal },
    [404],
  );
  answer.discard();
}

export interface ListedUpload {
  readonly key: string;
  readonly uploadId: string;
  /** NaN when the store does not say. */
  readonly begunMs: number;
}

/** Uploads that were begun and neither ended nor taken back, page by page. */
export async function* listUploads(
  client: S3Client,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<ListedUpload, void, void> {
  const doing = 'list unfinished uploads';
  let marker: Readonly<Record<string, string>> | undefined = {};
  while (marker !== undefined) {
    const query = { uploads: '', ...(prefix === '' ? {} : { prefix }), ...marker };
    const page = await client.text({ method: 'GET', key: '', query, doing, signal });
    for (const item of xmlElements(page, 'Upload')) {
      yield {
        key: xmlValue(item, 'Key') ?? '',
        uploadId: xmlValue(item, 'UploadId') ?? '',
        begunMs: Date.parse(xmlValue(item, 'Initiated') ?? ''),
      };
    }
    marker = nextMarker(page, marker);
  }
}

/** A store that gives the same page again must not be read for ever. */
function nextMarker(
  page: string,
  last: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> | undefined {
  const key = xmlValue(page, 'NextKeyMarker') ?? '';
  const uploadId = xmlValue(page, 'NextUploadIdMarker') ?? '';
  const isSame = key === last['key-marker'] && uploadId === (last['upload-id-marker'] ?? '');
  if (xmlValue(page, 'IsTruncated') !== 'true' || key === '' || isSame) return undefined;
  return { 'key-marker': key, ...(uploadId === '' ? {} : { 'upload-id-marker': uploadId }) };
}

export interface ObjectFacts {
  readonly sizeBytes: number;
  /** As it was given to the upload; undefined for objects of others. */
  readonly mark: string | undefined;
}

/** Undefined when there is no such object. */
export async function objectFacts(
  client: S3Client,
  key: string,
  signal: AbortSignal,
): Promise<ObjectFacts | undefined> {
  const doing = 'look for the artifact';
  const answer = await client.request({ method: 'HEAD', key, doing, signal }, [404]);
  answer.discard();
  if (answer.status === 404) return undefined;
  const length = answer.header('content-length') ?? '';
  if (!/^\d{1,15}$/.test(length)) throw answerFault(answer.status, '', doing);
  return { sizeBytes: Number(length), mark: answer.header(MARK_HEADER) };
}

async function assertStored(
  client: S3Client,
  key: string,
  { sizeBytes, signal }: UploadOptions,
): Promise<void> {
  const found = await objectFacts(client, key, signal);
  // A store that forgets the mark keeps the bytes all the same: they are only never taken up again.
  if (found?.sizeBytes === sizeBytes) return;
  throw new BuilderdError(
    'storage.failed',
    `Cannot ${DOING}: the object store has ${found?.sizeBytes ?? 'none'} of its ${sizeBytes} bytes`,
  );
}

interface Parts {
  next(): Promise<Buffer | undefined>;
  /** Throws unless the source has ended with the size that was promised. */
  assertEnded(): Promise<void>;
}

/** Joins pieces to parts of `size` bytes in memory of their own; the last one is what is left. */
function inParts(source: PieceSource, size: number, total: number): Parts {
  let left: Buffer | undefined;
  let done = 0;
  const next = async (): Promise<Buffer | undefined> => {
    // One byte more than there should be, to see that there are no more.
    const part = Buffer.allocUnsafe(Math.min(size, Math.max(0, total - done) + 1));
    let filled = 0;
    while (filled < part.length) {
      // A piece is used up before the next is asked for: its memory may be used again.
      left ??= await source.next();
      if (left === undefined) break;
      const copied = left.copy(part, filled);
      filled += copied;
      left = copied < left.length ? left.subarray(copied) : undefined;
    }
    done += filled;
    return filled === 0 ? undefined : part.subarray(0, filled);
  };
  return {
    next,
    async assertEnded() {
      if ((await next()) === undefined && done === total) return;
      throw new BuilderdError(
        'storage.failed',
        `Cannot ${DOING}: it has another size than was counted`,
      );
    },
  };
}
