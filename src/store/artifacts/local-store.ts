import { type FileHandle, mkdir, statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Addon } from '../../../native/addon.ts';
import type { Digest } from '../../core/digest.ts';
import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import type { TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
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
import { BlobFiles } from './blob-files.ts';
import type { BlobIndex } from './blob-index.ts';
import { Directory } from './directory.ts';
import { type DurableIo, diskIo, type Owner } from './durable-io.ts';
import { hashFile, hashing, type HashOptions } from './hash-file.ts';
import { type PieceSource, pieceStream } from './piece-stream.ts';
import { checkRange, encrypted, openPlain, requireKeys, writeOut } from './plain-bytes.ts';
import { type StagedName, Staging } from './staging.ts';
import { DiskHealth } from './store-health.ts';
import { MarkFile } from './store-mark.ts';
import { corrupt, readFault, storeFault } from './store-faults.ts';
import { attemptGeneration, freshGeneration } from './stored-name.ts';
import { fileCopy, type StoredCopy } from './stored-copy.ts';
import type { TenantKey, TenantKeys } from './tenant-keys.ts';
import { watchStaged } from './watch-staged.ts';

export interface LocalStoreOptions {
  /** ROOTFS_OUTPUT_DIR. Made, with its parents, when it is not there. */
  readonly directory: string;
  /** Who owns finished files: root and the service's group. Absent when we are not root. */
  readonly owner?: Owner;
  readonly index: BlobIndex;
  /** Without them nothing encrypted is written or read. */
  readonly keys?: TenantKeys;
  readonly addon?: Addon;
  /** For a process that only opens artifacts: nothing is made or probed. */
  readonly readOnly?: boolean;
  readonly io?: DurableIo;
}

interface Call {
  readonly signal: AbortSignal;
}

/** What an attempt staged, and the generation that its copy gets. */
interface Source {
  readonly at: Pick<StagedName, 'directory' | 'name'>;
  readonly handle: FileHandle;
  readonly generation: Generation;
}

const FILE_MODE = 0o440;
const ROOT_MODE = 0o750;
const DAMAGE = new Set<string>(['artifact.missing', 'artifact.corrupt', 'storage.failed']);

/** Throws `host.permission` when the directory is a symlink, or others may write to it. */
export async function openLocalStore(options: LocalStoreOptions): Promise<ArtifactStore> {
  const io = options.io ?? diskIo;
  try {
    if (options.readOnly !== true) {
      await mkdir(options.directory, { recursive: true, mode: ROOT_MODE });
    }
    const root = await Directory.open(io, options.directory);
    try {
      await checkOwner(root);
      const store = new LocalStore(root, io, options);
      if (options.readOnly !== true) await store.recall();
      return store;
    } catch (reason) {
      await root[Symbol.asyncDispose]();
      throw reason;
    }
  } catch (reason) {
    throw storeFault(reason, `open the artifact store ${JSON.stringify(options.directory)}`);
  }
}

async function checkOwner(root: Directory): Promise<void> {
  const { uid, mode } = await root.handle.stat();
  const us = process.geteuid?.() ?? 0;
  const isOurs = uid === 0 || uid === us;
  if (isOurs && (mode & 0o022) === 0) return;
  const fact = isOurs
    ? `its mode is ${(mode & 0o7777).toString(8)}, so that others can write to it; want 750`
    : `it belongs to user ${uid}; want root or the service's user`;
  throw new BuilderdError('host.permission', `Cannot use the artifact store: ${fact}`);
}

class LocalStore implements ArtifactStore {
  readonly backend = 'local';
  readonly #root: Directory;
  readonly #io: DurableIo;
  readonly #options: LocalStoreOptions;
  readonly #health: DiskHealth;
  readonly #staging: Staging;
  readonly #blobs: BlobFiles;
  readonly #mark: MarkFile;

  constructor(root: Directory, io: DurableIo, options: LocalStoreOptions) {
    this.#root = root;
    this.#io = io;
    this.#options = options;
    this.#health = new DiskHealth(io, root);
    this.#staging = new Staging(io, root, options.directory);
    this.#mark = new MarkFile(io, root, options.owner);
    this.#blobs = new BlobFiles({ io, root, health: this.#health, owner: options.owner });
  }

  recall(): Promise<void> {
    return this.#health.recall();
  }

  async stage(request: StageRequest, { signal }: Call): Promise<StagedArtifact> {
    this.#assertWritable();
    await this.#health.assertHealthy(signal);
    return this.#staging.stage(request, signal);
  }

  async commit(staged: StagedArtifact, options: Call & CommitOptions): Promise<StoredBlob> {
    this.#assertWritable();
    await this.#health.assertHealthy(options.signal);
    try {
      await using at = await this.#staging.enter(staged.request);
      const { generation = attemptGeneration(staged.request) } = options;
      const use = { at, handle: staged.handle, generation };
      const blob = options.encrypt
        ? await this.#commitEncrypted(use, options)
        : await this.#commitPlain(use, options);
      await this.#staging.drop(at);
      return blob;
    } catch (reason) {
      throw storeFault(reason, 'commit the artifact');
    }
  }

  async #commitPlain(
    { at, handle, generation }: Source,
    { tenantId, announce, signal }: Call & CommitOptions,
  ): Promise<StoredBlob> {
    // Before the sync, which then makes owner and mode durable as well.
    await this.#io.seal(handle, FILE_MODE, this.#options.owner);
    const watched = await watchStaged(handle);
    const { sizeBytes } = watched;
    const [digest] = await Promise.all([
      hashFile(handle, sizeBytes, this.#hashing(signal)),
      this.#health.sync(handle),
    ]);
    await watched.assertUnchanged();
    const known = await this.#reusable(tenantId, digest, undefined, signal);
    if (known !== undefined) return known;
    const blob = { digest, sizeBytes, storedBytes: sizeBytes, generation };
    await announce?.(blob);
    return this.#place({ at, handle }, tenantId, blob, signal);
  }

  async #commitEncrypted(
    { at, handle, generation }: Source,
    { tenantId, announce, signal }: Call & CommitOptions,
  ): Promise<StoredBlob> {
    const key = await requireKeys(this.#options.keys).current(tenantId, { signal });
    const watched = await watchStaged(handle);
    const { sizeBytes } = watched;
    if (await this.#options.index.hasSize(tenantId, sizeBytes, { signal })) {
      const digest = await hashFile(handle, sizeBytes, this.#hashing(signal));
      await watched.assertUnchanged();
      const known = await this.#reusable(tenantId, digest, key.id, signal);
      if (known !== undefined) return known;
    }
    // Not a name that can be staged: nobody else is at it.
    const sealedAt = { ...at, name: `${at.name}+age` };
    await this.#staging.drop(sealedAt);
    const range = { start: 0, end: sizeBytes - 1 };
    const reading = fileCopy(this.#io, handle, sizeBytes).read(range, PLAIN_BATCH);
    // The staged file stays open: it is not ours to close.
    const unclosed = { next: () => reading.next(), close: async () => undefined };
    const plain = hashing(unclosed, this.#options.addon);
    const digest = async (): Promise<Digest> => {
      await watched.assertUnchanged();
      return plain.digest();
    };
    try {
      const wish = { plain, sizeBytes, digest, generation, key, announce };
      return await this.#store(sealedAt, wish, tenantId, signal);
    } finally {
      await plain.close();
    }
  }

  /** Writes a copy of plain bytes into a new file, syncs it and gives it its final name. */
  async #store(
    at: Pick<StagedName, 'directory' | 'name'>,
    copy: {
      readonly plain: PieceSource;
      readonly sizeBytes: number;
      /** Asked for when all of `plain` has been read. */
      readonly digest: () => Promise<Digest>;
      readonly generation: Generation;
      readonly key: TenantKey | undefined;
      readonly announce?: CommitOptions['announce'];
    },
    tenantId: TenantId,
    signal: AbortSignal,
  ): Promise<StoredBlob> {
    const { plain, sizeBytes, generation, key } = copy;
    await using handle = await this.#staging.create(at);
    try {
      const { source } = key ? await encrypted(plain, sizeBytes, key) : { source: plain };
      const storedBytes = await writeOut(source, { io: this.#io, handle }, signal);
      const digest = await copy.digest();
      await this.#io.seal(handle, FILE_MODE, this.#options.owner);
      await this.#health.sync(handle);
      const blob = { digest, sizeBytes, storedBytes, generation };
      const named = key === undefined ? blob : { ...blob, dataKeyId: key.id };
      await copy.announce?.(named);
      return await this.#place({ at, handle }, tenantId, named, signal);
    } finally {
      await this.#staging.drop(at);
    }
  }

  async #place(
    { at, handle }: Pick<Source, 'at' | 'handle'>,
    tenantId: TenantId,
    blob: StoredBlob,
    signal: AbortSignal,
  ): Promise<StoredBlob> {
    if ((await this.#blobs.place(at, handle, tenantId, blob)) === 'existing') {
      await this.#assertSame(tenantId, blob, signal);
    }
    return blob;
  }

  /**
   * The copy that a row names, when it is in the wanted form and sound: all its bytes are read, for
   * a build must not be completed with what rotted since.
   */
  async #reusable(
    tenantId: TenantId,
    digest: Digest,
    dataKeyId: string | undefined,
    signal: AbortSignal,
  ): Promise<StoredBlob | undefined> {
    const known = await this.#options.index.findPresent(tenantId, digest, { signal });
    if (known === undefined || known.dataKeyId !== dataKeyId) return undefined;
    return (await this.#damageOf(tenantId, known, signal)) === undefined ? known : undefined;
  }

  /** Two artifacts of one attempt may hold the same bytes; anything else there is an alarm. */
  async #assertSame(tenantId: TenantId, blob: StoredBlob, signal: AbortSignal): Promise<void> {
    const found = await this.storedSize(tenantId, blob, { signal });
    const there = { ...blob, storedBytes: found ?? blob.storedBytes };
    const damage = await this.#damageOf(tenantId, there, signal);
    if (damage === undefined) return;
    throw new BuilderdError(
      'storage.failed',
      'Cannot commit the artifact: its name holds other bytes than its digest says',
      { cause: damage },
    );
  }

  /** Why a copy cannot be read as its row says, after reading all of it. */
  async #damageOf(
    tenantId: TenantId,
    blob: StoredBlob,
    signal: AbortSignal,
  ): Promise<BuilderdError | undefined> {
    try {
      const copy = await this.#openCopy(tenantId, blob);
      const { keys } = this.#options;
      const plain = await openPlain(copy, tenantId, blob, { keys, signal, verify: true });
      try {
        await drain(plain, signal);
      } finally {
        await plain.close();
      }
      return undefined;
    } catch (reason) {
      throwIfAborted(signal, 'read the artifact');
      if (isBuilderdError(reason) && DAMAGE.has(reason.code)) return reason;
      throw reason;
    }
  }

  async open(
    tenantId: TenantId,
    blob: StoredBlob,
    options: Call & { readonly range?: BlobRange; readonly verify?: boolean },
  ): Promise<Readable> {
    checkRange(options.range, blob.sizeBytes);
    const copy = await this.#openCopy(tenantId, blob);
    const plain = await openPlain(copy, tenantId, blob, { ...options, keys: this.#options.keys });
    return pieceStream(plain, options.signal);
  }

  async recode(
    tenantId: TenantId,
    blob: StoredBlob,
    { encrypt, signal }: Call & { readonly encrypt: boolean },
  ): Promise<StoredBlob> {
    this.#assertWritable();
    await this.#health.assertHealthy(signal);
    const { keys } = this.#options;
    const key = encrypt ? await requireKeys(keys).current(tenantId, { signal }) : undefined;
    const copy = await this.#openCopy(tenantId, blob);
    const plain = await openPlain(copy, tenantId, blob, { keys, signal, verify: true });
    try {
      await using at = await this.#staging.enterScratch();
      // The source has been verified against it by then.
      const digest = async (): Promise<Digest> => blob.digest;
      const wish = { plain, digest, sizeBytes: blob.sizeBytes, generation: freshGeneration(), key };
      return await this.#store(at, wish, tenantId, signal);
    } catch (reason) {
      throw storeFault(reason, 'store the artifact again');
    } finally {
      await plain.close();
    }
  }

  async #openCopy(
    tenantId: TenantId,
    blob: Pick<StoredBlob, 'digest' | 'generation'>,
  ): Promise<StoredCopy> {
    try {
      const handle = await this.#blobs.open(tenantId, blob);
      try {
        const status = await handle.stat();
        if (!status.isFile()) throw corrupt('its name is no regular file');
        return fileCopy(this.#io, handle, status.size);
      } catch (reason) {
        await handle.close();
        throw reason;
      }
    } catch (reason) {
      throw readFault(reason);
    }
  }

  async storedSize(
    tenantId: TenantId,
    blob: Pick<StoredBlob, 'digest' | 'generation'>,
    _call: Call,
  ): Promise<number | undefined> {
    try {
      const copy = await this.#openCopy(tenantId, blob);
      await copy.close();
      return copy.storedBytes;
    } catch (reason) {
      if (reason instanceof BuilderdError && reason.code === 'artifact.missing') return undefined;
      throw reason;
    }
  }

  remove(tenantId: TenantId, blob: Pick<StoredBlob, 'digest' | 'generation'>): Promise<void> {
    this.#assertWritable();
    return this.#blobs.remove(tenantId, blob);
  }

  list({ signal }: Call): AsyncIterable<ListedFile> {
    return this.#blobs.list(signal);
  }

  stagedAttempts({ signal }: Call): Promise<readonly StagedAttempt[]> {
    return this.#staging.attempts(signal);
  }

  discardAttempt(attempt: StagedAttempt, { signal }: Call): Promise<void> {
    this.#assertWritable();
    return this.#staging.discard(attempt, signal);
  }

  tidy(_call: Call): Promise<void> {
    this.#assertWritable();
    return this.#staging.tidy(Date.now());
  }

  readMark(_call: Call): Promise<string | undefined> {
    return this.#mark.read();
  }

  writeMark(databaseId: string, options: Call & { readonly replace: boolean }): Promise<void> {
    this.#assertWritable();
    return this.#mark.write(databaseId, options);
  }

  health(): StoreHealth {
    return this.#health.get();
  }

  check({ signal }: Call): Promise<StoreHealth> {
    this.#assertWritable();
    return this.#health.check(signal);
  }

  async space(_call: Call): Promise<StoreSpace> {
    const found = await statfs(this.#options.directory);
    return { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#root[Symbol.asyncDispose]();
  }

  #hashing(signal: AbortSignal): HashOptions {
    return { io: this.#io, addon: this.#options.addon, signal };
  }

  #assertWritable(): void {
    if (this.#options.readOnly !== true) return;
    throw new BuilderdError('internal', 'Cannot change the artifact store: it is open for reading');
  }
}

async function drain(source: PieceSource, signal: AbortSignal): Promise<void> {
  while ((await source.next()) !== undefined) throwIfAborted(signal, 'read the artifact');
}
