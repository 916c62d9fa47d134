import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BuilderdError, errnoOf, messageOf } from '../../../core/errors.ts';
import type { Artifact } from './answers.ts';
import { type ApiClient, passingMs } from './api-client.ts';
import type { HttpAnswer } from './connection.ts';

export interface DownloadOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (doneBytes: number) => void;
  /** Told when the transfer is cut, before it goes on. */
  readonly onCut?: (reason: unknown) => void;
}

/** Cuts in a row without a single new byte. */
const FRUITLESS_TRIES = 6;
const READ_BYTES = 1024 * 1024;

/**
 * Fetches an artifact into `path`. Bytes collect in a file beside it, which a later run goes on
 * with; it gets its name when all of them are there, hashed to the digest and synced.
 * Throws `artifact.corrupt` when the bytes are others than promised, and what the server says.
 */
export async function downloadArtifact(
  client: ApiClient,
  source: { readonly id: string; readonly artifact: Artifact },
  path: string,
  options: DownloadOptions,
): Promise<void> {
  const { artifact } = source;
  const hex = /^sha256:([0-9a-f]{64})$/.exec(artifact.digest)?.[1];
  if (hex === undefined) {
    throw new BuilderdError('server.invalid', 'Cannot fetch the artifact: its digest is no sha256');
  }
  // The digest in the name: what is there belongs to these bytes and to no others.
  const partPath = join(dirname(path), `.${basename(path).slice(0, 100)}.${hex.slice(0, 16)}.part`);
  {
    await using part = await openPart(partPath, path);
    let state = await readPart(part, artifact.sizeBytes, options);
    if (state.done < artifact.sizeBytes) {
      state = await fetchRest(client, source, { part, state }, options);
    }
    if (state.hash.digest('hex') !== hex) {
      await rm(partPath, { force: true });
      throw new BuilderdError(
        'artifact.corrupt',
        `Cannot keep ${basename(path)}: its bytes are not those of ${artifact.digest}`,
      );
    }
    await part.sync();
  }
  try {
    await rename(partPath, path);
  } catch (reason) {
    throw cannotWrite(path, reason);
  }
  await syncDirectory(dirname(path));
}

function cannotWrite(path: string, reason: unknown): BuilderdError {
  const code = errnoOf(reason) === 'ENOSPC' ? 'storage.full' : 'usage.invalid';
  const message = `Cannot write ${JSON.stringify(path)}: ${messageOf(reason)}`;
  return new BuilderdError(code, message, { cause: reason });
}

interface PartState {
  readonly hash: Hash;
  readonly done: number;
}

/**
 * A new file, or the one that an earlier run of ours left. Others may be able to write where the user
 * stands: what they put there, or can still write to, is not gone on with.
 */
async function openPart(partPath: string, path: string): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;
  try {
    return await open(partPath, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
  } catch (reason) {
    if (errnoOf(reason) !== 'EEXIST') throw cannotWrite(path, reason);
  }
  let part: FileHandle;
  try {
    // A pipe must not make us wait.
    part = await open(partPath, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  } catch (reason) {
    throw cannotWrite(path, reason);
  }
  const stat = await part.stat();
  const isOurs = stat.isFile() && stat.nlink === 1 && stat.uid === process.geteuid?.();
  if (isOurs && (stat.mode & 0o022) === 0) return part;
  await part.close();
  throw new BuilderdError(
    'usage.invalid',
    `Cannot go on with ${JSON.stringify(partPath)}: others made it or may write to it; remove it`,
  );
}

/** What an earlier run left, hashed again; more than the artifact has is worth nothing. */
async function readPart(
  part: FileHandle,
  sizeBytes: number,
  { signal }: DownloadOptions,
): Promise<PartState> {
  const { size } = await part.stat();
  const hash = createHash('sha256');
  if (size > sizeBytes) {
    await part.truncate(0);
    return { hash, done: 0 };
  }
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  let done = 0;
  while (done < size) {
    signal.throwIfAborted();
    const { bytesRead } = await part.read(buffer, 0, READ_BYTES, done);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
  }
  return { hash, done };
}

async function fetchRest(
  client: ApiClient,
  source: { readonly id: string; readonly artifact: Artifact },
  start: { readonly part: FileHandle; readonly state: PartState },
  options: DownloadOptions,
): Promise<PartState> {
  const { artifact } = source;
  const { part } = start;
  let { hash, done } = start.state;
  let fruitless = 0;
  for (;;) {
    const before = done;
    try {
      const answer = await openRange(client, source, done, options.signal);
      if (answer.status !== 206 && done > 0) {
        await part.truncate(0);
        hash = createHash('sha256');
        done = 0;
      }
      for await (const chunk of answer.body) {
        if (done + chunk.length > artifact.sizeBytes) {
          throw new BuilderdError(
            'server.invalid',
            `Cannot fetch ${artifact.name}: the server sends more than its ${artifact.sizeBytes} bytes`,
          );
        }
        await writeAll(part, chunk, done);
        hash.update(chunk);
        done += chunk.length;
        options.onProgress?.(done);
      }
      if (done === artifact.sizeBytes) return { hash, done };
      throw new BuilderdError(
        'server.unreachable',
        `Cannot fetch ${artifact.name}: the server ended after ${done} of ${artifact.sizeBytes} bytes`,
      );
    } catch (reason) {
      options.signal.throwIfAborted();
      const waitMs = passingMs(reason);
      fruitless = done > before ? 0 : fruitless + 1;
      if (waitMs === undefined || fruitless >= FRUITLESS_TRIES) throw reason;
      options.onCut?.(reason);
      await client.pause(fruitless, options.signal, waitMs);
    }
  }
}

async function openRange(
  client: ApiClient,
  { id, artifact }: { readonly id: string; readonly artifact: Artifact },
  from: number,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const tag = `"${artifact.digest}"`;
  const path = `/v1/builds/${encodeURIComponent(id)}/artifacts/${encodeURIComponent(artifact.name)}`;
  const answer = await client.open(path, {
    doing: `fetch ${artifact.name}`,
    signal,
    repeatable: false,
    headers: {
      accept: 'application/octet-stream, application/json',
      ...(from === 0 ? {} : { range: `bytes=${from}-`, 'if-range': tag }),
    },
  });
  const [, start] = /^bytes (\d{1,16})-/.exec(answer.header('content-range') ?? '') ?? [];
  const isWanted = answer.status === 206 ? Number(start) === from : answer.status === 200;
  if (isWanted) return answer;
  answer.discard();
  throw new BuilderdError(
    'server.invalid',
    `Cannot fetch ${artifact.name}: the server sends another part`,
  );
}

async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, at + written);
    written += bytesWritten;
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}
