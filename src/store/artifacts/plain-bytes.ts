import type { FileHandle } from 'node:fs/promises';
import { digestHex } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { MAX_HEADER_BYTES, makeAgeHeader, openAgeHeader } from './age-header.ts';
import { openPayload, sealPayload, STORED_BATCH } from './age-payload.ts';
import { payloadBytes, spanOf } from './age-pieces.ts';
import type { BlobRange, StoredBlob } from './artifact-store.ts';
import type { DurableIo } from './durable-io.ts';
import type { PieceSource } from './piece-stream.ts';
import { corrupt } from './store-faults.ts';
import { type StoredCopy, verified } from './stored-copy.ts';
import type { TenantKey, TenantKeys } from './tenant-keys.ts';

export interface PlainOptions {
  readonly keys: TenantKeys | undefined;
  readonly signal: AbortSignal;
  readonly range?: BlobRange;
  /** Hash the whole and hold the last piece back until it is found right. */
  readonly verify?: boolean;
}

/** The plain bytes of a stored copy. Closes the copy when it throws. */
export async function openPlain(
  copy: StoredCopy,
  tenantId: TenantId,
  blob: StoredBlob,
  options: PlainOptions,
): Promise<PieceSource> {
  try {
    if (copy.storedBytes !== blob.storedBytes) {
      throw corrupt(`its copy has ${copy.storedBytes} bytes instead of ${blob.storedBytes}`);
    }
    const range = options.range ?? { start: 0, end: blob.sizeBytes - 1 };
    const plain =
      blob.dataKeyId === undefined
        ? readStoredPlain(copy, blob, range)
        : await decrypt(
            copy,
            tenantId,
            { ...blob, dataKeyId: blob.dataKeyId },
            { ...options, range },
          );
    const isWhole = options.range === undefined;
    return options.verify === true && isWhole ? verified(plain, digestHex(blob.digest)) : plain;
  } catch (reason) {
    await copy.close();
    throw reason;
  }
}

function readStoredPlain(copy: StoredCopy, blob: StoredBlob, range: BlobRange): PieceSource {
  if (blob.sizeBytes === blob.storedBytes) return copy.read(range);
  throw corrupt('it is stored plain, in another size than its own');
}

async function decrypt(
  copy: StoredCopy,
  tenantId: TenantId,
  { dataKeyId, sizeBytes }: StoredBlob & { readonly dataKeyId: string },
  { keys, signal, range }: PlainOptions & { readonly range: BlobRange },
): Promise<PieceSource> {
  const { identity } = await requireKeys(keys).byId(tenantId, dataKeyId, { signal });
  const start = await readAll(copy, {
    start: 0,
    end: Math.min(MAX_HEADER_BYTES, copy.storedBytes) - 1,
  });
  const header = await openAgeHeader(start, identity);
  if (copy.storedBytes !== header.length + payloadBytes(sizeBytes)) {
    throw corrupt('its encrypted copy has another length than its size says');
  }
  const span = spanOf(range, sizeBytes);
  const stored = copy.read(
    {
      start: header.length + span.stored.start,
      end: header.length + span.stored.end,
    },
    STORED_BATCH,
  );
  return openPayload(stored, span, { key: header.payloadKey, sizeBytes });
}

async function readAll(copy: StoredCopy, range: BlobRange): Promise<Buffer> {
  const source = copy.read(range);
  const chunks: Buffer[] = [];
  for (let piece = await source.next(); piece !== undefined; piece = await source.next()) {
    chunks.push(piece);
  }
  return Buffer.concat(chunks);
}

/** Range of the plain bytes as asked for; throws `api.invalid` when it lies outside. */
export function checkRange(range: BlobRange | undefined, sizeBytes: number): void {
  if (range === undefined) return;
  const { start, end } = range;
  const isInside = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0;
  if (isInside && start <= end && end < sizeBytes) return;
  throw new BuilderdError('api.invalid', 'Cannot read the artifact: the range lies outside of it');
}

export function requireKeys(keys: TenantKeys | undefined): TenantKeys {
  if (keys !== undefined) return keys;
  throw new BuilderdError(
    'config.invalid',
    'Cannot use an encrypted artifact: this process has no master key',
  );
}

/** The bytes of an age file of `sizeBytes` plain ones, and how many they are. */
export async function encrypted(
  plain: PieceSource,
  sizeBytes: number,
  key: TenantKey,
): Promise<{ readonly source: PieceSource; readonly storedBytes: number }> {
  const header = await makeAgeHeader(key.recipient);
  const payload = sealPayload(plain, sizeBytes, header.payloadKey);
  let isBegun = false;
  const next = async (): Promise<Buffer | undefined> => {
    if (isBegun) return payload.next();
    isBegun = true;
    return header.bytes;
  };
  return {
    source: { next, close: () => plain.close() },
    storedBytes: header.length + payloadBytes(sizeBytes),
  };
}

/** Writes all that a source gives; gives its length. */
export async function writeOut(
  source: PieceSource,
  { io, handle }: { readonly io: DurableIo; readonly handle: FileHandle },
  signal: AbortSignal,
): Promise<number> {
  let end = 0;
  let piece = await source.next();
  while (piece !== undefined) {
    throwIfAborted(signal, 'store the artifact');
    const [following] = await Promise.all([
      source.next(),
      io.write(handle, piece, piece.length, end),
    ]);
    end += piece.length;
    piece = following;
  }
  return end;
}
