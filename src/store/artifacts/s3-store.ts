import { mkdir, statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Addon } from '../../../native/addon.ts';
import type { Digest } from '../../core/digest.ts';
import { BuilderdError, isBuilderdError, messageOf } from '../../core/errors.ts';
import { isUuid, newId, parseTenantId, type TenantId } from '../../core/ids.ts';
import { PLAIN_BATCH } from './age-payload.ts';
import type {
  ArtifactStore,
  BlobRange,
  CommitOptions,
  Generation,
  ListedFile,
  StagedArtifact,
  StagedAttempt,
  StageRequest,
  StoredBlob,
  StoreHealth,
  StoreSpace,
} from './artifact-store.ts';
import type { BlobIndex } from './blob-index.ts';
import { Directory } from './directory.ts';
import { diskIo } from './durable-io.ts';
import { hashFile } from './hash-file.ts';
import { type PieceSource, pieceStream } from './piece-stream.ts';
import { checkRange, encrypted, openPlain, requireKeys } from './plain-bytes.ts';
import { createS3Client, type S3Client, type S3Config } from './s3-client.ts';
import { objectCopy } from './s3-copy.ts';
import { abortUpload, listUploads, objectFacts, upload } from './s3-upload.ts';
import { xmlElements, xmlValue } from './s3-xml.ts';
import { Staging } from './staging.ts';
import { MARK_NAME, markText, parseMark } from './store-mark.ts';
import { storeFault } from './store-faults.ts';
import { fileCopy, type StoredCopy } from './stored-copy.ts';
import { attemptGeneration, freshGeneration, parseStoredFile, storedPath } from './stored-name.ts';
import type { TenantKey, TenantKeys } from './tenant-keys.ts';
import { watchStaged } from './watch-staged.ts';

export interface S3StoreOptions {
  readonly s3: S3Config;
  /** Put before all keys, without slashes around it; empty for none. */
  readonly prefix: string;
  /** Where attempts stage before they upload: SCRATCH_DIR. Not used by a store that only reads. */
  readonly stagingDirectory: string;
  readonly index: BlobIndex;
  readonly keys?: TenantKeys;
  readonly addon?: Addon;
  readonly readOnly?: boolean;
  /** Uploads that could not be taken back: found again by `tidy`. */
  readonly onCleanupFault: (reason: unknown) => void;
  /** For tests of small uploads. */
  readonly minPartBytes?: number;
}

interface Call {
  readonly signal: AbortSignal;
}

type CopyKey = Pick<StoredBlob, 'digest' | 'generation'>;

/** Written with an object and read before its copy is taken up again: nobody else put it there. */
const markOf = (digest: Digest, generation: Generation): string => `${digest} ${generation}`;

const STALE_UPLOAD_MS = 24 * 60 * 60_000;

/** Artifacts in a bucket: what several hosts share. Throws `storage.failed` for a bad bucket or key. */
export async function openS3Store(options: S3StoreOptions): Promise<ArtifactStore> {
  const doing = `open the staging directory ${JSON.stringify(options.stagingDirectory)}`;
  try {
    if (options.readOnly !== true) {
      await mkdir(options.stagingDirectory, { recursive: true, mode: 0o700 });
    }
    const root =
      options.readOnly === true
        ? undefined
        : await Directory.open(diskIo, options.stagingDirectory);
    return new S3Store(options, root);
  } catch (reason) {
    throw storeFault(reason, doing);
  }
}

class S3Store implements ArtifactStore {
  readonly backend = 's3';
  readonly #options: S3StoreOptions;
  readonly #client: S3Client;
  readonly #root: Directory | undefined;
  readonly #prefix: string;
  #health: StoreHealth = { kind: 'healthy' };

  constructor(options: S3StoreOptions, root: Directory | undefined) {
    this.#options = options;
    this.#root = root;
    this.#client = createS3Client(options.s3);
    this.#prefix = options.prefix === '' ? '' : `${options.prefix}/`;
  }

  async stage(request: StageRequest, { signal }: Call): Promise<StagedArtifact> {
    return this.#staging().stage(request, signal);
  }

  async commit(staged: StagedArtifact, options: Call & CommitOptions): Promise<StoredBlob> {
    const { tenantId, encrypt, signal } = options;
    const { handle, request } = staged;
    const { generation = attemptGeneration(request) } = options;
    const staging = this.#staging();
    try {
      const key = encrypt
        ? await requireKeys(this.#options.keys).current(tenantId, { signal })
        : undefined;
      const watched = await watchStaged(handle);
      const { sizeBytes } = watched;
      const digest = await hashFile(handle, sizeBytes, {
        io: diskIo,
        addon: this.#options.addon,
        signal,
      });
      await watched.assertUnchanged();
      const known = await this.#reusable(tenantId, digest, key?.id, signal);
      const range = { start: 0, end: sizeBytes - 1 };
      const blob =
        known ??
        (await this.#store(tenantId, {
          plain: fileCopy(diskIo, handle, sizeBytes).read(range, PLAIN_BATCH),
          digest,
          sizeBytes,
          generation,
          key,
          announce: options.announce,
          signal,
        }));
      await watched.assertUnchanged();
      await using at = await staging.enter(request);
      await staging.drop(at);
      return blob;
    } catch (reason) {
      throw storeFault(reason, 'commit the artifact');
    }
  }

  async #store(
    tenantId: TenantId,
    copy: {
      readonly plain: PieceSource;
      readonly digest: Digest;
      readonly sizeBytes: number;
      readonly generation: Generation;
      readonly key: TenantKey | undefined;
      readonly announce?: CommitOptions['announce'];
      readonly signal: AbortSignal;
    },
  ): Promise<StoredBlob> {
    const { plain, digest, sizeBytes, generation, key, signal } = copy;
    const name = this.#keyOf(tenantId, { digest, generation });
    const { onCleanupFault, minPartBytes } = this.#options;
    const sealed = key === undefined ? undefined : await encrypted(plain, sizeBytes, key);
    const storedBytes = sealed?.storedBytes ?? sizeBytes;
    const plainBlob = { digest, sizeBytes, storedBytes, generation };
    const blob = key === undefined ? plainBlob : { ...plainBlob, dataKeyId: key.id };
    await copy.announce?.(blob);
    await upload(this.#client, name, sealed?.source ?? plain, {
      sizeBytes: storedBytes,
      mark: markOf(digest, generation),
      signal,
      onCleanupFault,
      ...(minPartBytes === undefined ? {} : { minPartBytes }),
    });
    return blob;
  }

  async #reusable(
    tenantId: TenantId,
    digest: Digest,
    dataKeyId: string | undefined,
    signal: AbortSignal,
  ): Promise<StoredBlob | undefined> {
    const known = await this.#options.index.findPresent(tenantId, digest, { signal });
    if (known === undefined || known.dataKeyId !== dataKeyId) return undefined;
    const key = this.#keyOf(tenantId, known);
    const found = await objectFacts(this.#client, key, signal);
    const isSame =
      found?.sizeBytes === known.storedBytes &&
      found.mark === markOf(known.digest, known.generation);
    return isSame ? known : undefined;
  }

  async open(
    tenantId: TenantId,
    blob: StoredBlob,
    options: Call & { readonly range?: BlobRange; readonly verify?: boolean },
  ): Promise<Readable> {
    checkRange(options.range, blob.sizeBytes);
    const copy = await this.#openCopy(tenantId, blob, options.signal);
    const plain = await openPlain(copy, tenantId, blob, { ...options, keys: this.#options.keys });
    return pieceStream(plain, options.signal);
  }

  async #openCopy(tenantId: TenantId, blob: CopyKey, signal: AbortSignal): Promise<StoredCopy> {
    const key = this.#keyOf(tenantId, blob);
    const found = await objectFacts(this.#client, key, signal);
    if (found !== undefined) return objectCopy(this.#client, key, found.sizeBytes, signal);
    throw new BuilderdError('artifact.missing', 'Cannot open the artifact: its object is gone');
  }

  async recode(
    tenantId: TenantId,
    blob: StoredBlob,
    { encrypt, signal }: Call & { readonly encrypt: boolean },
  ): Promise<StoredBlob> {
    const { keys } = this.#options;
    const key = encrypt ? await requireKeys(keys).current(tenantId, { signal }) : undefined;
    const copy = await this.#openCopy(tenantId, blob, signal);
    const plain = await openPlain(copy, tenantId, blob, { keys, signal, verify: true });
    try {
      const { digest, sizeBytes } = blob;
      const generation = freshGeneration();
      return await this.#store(tenantId, { plain, digest, sizeBytes, generation, key, signal });
    } finally {
      await plain.close();
    }
  }

  async storedSize(
    tenantId: TenantId,
    blob: CopyKey,
    { signal }: Call,
  ): Promise<number | undefined> {
    return (await objectFacts(this.#client, this.#keyOf(tenantId, blob), signal))?.sizeBytes;
  }

  async remove(tenantId: TenantId, blob: CopyKey, { signal }: Call): Promise<void> {
    await this.#delete(this.#keyOf(tenantId, blob), signal);
  }

  async #delete(key: string, signal: AbortSignal): Promise<void> {
    const doing = 'remove an artifact';
    const request = { method: 'DELETE', key, doing, signal } as const;
    (await this.#client.request(request, [404])).discard();
  }

  async *list({ signal }: Call): AsyncGenerator<ListedFile, void, void> {
    let token: string | undefined;
    do {
      const page = await this.#client.text({
        method: 'GET',
        key: '',
        query: {
          'list-type': '2',
          ...(this.#prefix === '' ? {} : { prefix: this.#prefix }),
          ...(token === undefined ? {} : { 'continuation-token': token }),
        },
        doing: 'list the artifact store',
        signal,
      });
      for (const item of xmlElements(page, 'Contents')) {
        const key = xmlValue(item, 'Key') ?? '';
        if (key === `${this.#prefix}${MARK_NAME}`) continue;
        yield this.#parseItem(key, Number(xmlValue(item, 'Size')));
      }
      const next = xmlValue(page, 'NextContinuationToken');
      // A store that gives the same page again must not be read for ever.
      token = next === token ? undefined : next;
    } while (token !== undefined);
  }

  #parseItem(key: string, storedBytes: number): ListedFile {
    const name = key.startsWith(this.#prefix) ? key.slice(this.#prefix.length) : key;
    const [tenant = '', algorithm, prefix = '', file = '', ...more] = name.split('/');
    const copy = parseStoredFile(prefix, file);
    const isOurs = isUuid(tenant) && algorithm === 'sha256' && more.length === 0;
    if (
      !isOurs ||
      copy === undefined ||
      prefix.length !== 2 ||
      !Number.isSafeInteger(storedBytes)
    ) {
      return { kind: 'foreign', name: key };
    }
    return { kind: 'blob', tenantId: parseTenantId(tenant), ...copy, storedBytes };
  }

  stagedAttempts({ signal }: Call): Promise<readonly StagedAttempt[]> {
    return this.#staging().attempts(signal);
  }

  discardAttempt(attempt: StagedAttempt, { signal }: Call): Promise<void> {
    return this.#staging().discard(attempt, signal);
  }

  /** Uploads of processes that died keep their parts, and cost, until someone takes them back. */
  async tidy({ signal }: Call): Promise<void> {
    for await (const { key, uploadId, begunMs } of listUploads(
      this.#client,
      this.#prefix,
      signal,
    )) {
      const isOurs = this.#parseItem(key, 0).kind === 'blob';
      if (!isOurs || uploadId === '' || !(begunMs < Date.now() - STALE_UPLOAD_MS)) continue;
      await abortUpload(this.#client, key, uploadId, signal);
    }
  }

  async readMark({ signal }: Call): Promise<string | undefined> {
    const doing = 'read whose artifact store it is';
    const key = `${this.#prefix}${MARK_NAME}`;
    const exists = (await objectFacts(this.#client, key, signal)) !== undefined;
    return exists
      ? parseMark(await this.#client.text({ method: 'GET', key, doing, signal }))
      : undefined;
  }

  async writeMark(
    databaseId: string,
    { replace, signal }: Call & { readonly replace: boolean },
  ): Promise<void> {
    if (!replace && (await this.readMark({ signal })) !== undefined) return;
    const doing = 'mark the artifact store';
    const key = `${this.#prefix}${MARK_NAME}`;
    const body = Buffer.from(markText(databaseId));
    (await this.#client.request({ method: 'PUT', key, body, doing, signal })).discard();
  }

  health(): StoreHealth {
    return this.#health;
  }

  async check({ signal }: Call): Promise<StoreHealth> {
    const key = `${this.#prefix}.probe-${newId()}`;
    const doing = 'probe the object store';
    const body = Buffer.from(key);
    try {
      (await this.#client.request({ method: 'PUT', key, body, doing, signal })).discard();
      const found = await this.#client.text({ method: 'GET', key, doing, signal });
      await this.#delete(key, signal);
      const reason = 'other bytes came back than were written';
      this.#health = found === key ? { kind: 'healthy' } : { kind: 'unhealthy', reason };
    } catch (reason) {
      if (isBuilderdError(reason, 'build.cancelled')) throw reason;
      this.#health = { kind: 'unhealthy', reason: messageOf(reason) };
    }
    return this.#health;
  }

  async space(_call: Call): Promise<StoreSpace> {
    const found = await statfs(this.#options.stagingDirectory);
    return { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
    await this.#root?.[Symbol.asyncDispose]();
  }

  #staging(): Staging {
    if (this.#root !== undefined) {
      return new Staging(diskIo, this.#root, this.#options.stagingDirectory);
    }
    throw new BuilderdError('internal', 'Cannot change the artifact store: it is open for reading');
  }

  #keyOf(tenantId: TenantId, copy: CopyKey): string {
    const { directories, file } = storedPath(tenantId, copy);
    return `${this.#prefix}${directories.join('/')}/${file}`;
  }
}
