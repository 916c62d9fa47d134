import { mkdir, statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Addon } from '../../../native/addon.ts';
import { digestHex } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { TenantId } from '../../core/ids.ts';
import type {
  ArtifactStore,
  BlobRange,
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
import { hashFile } from './hash-file.ts';
import { pieceStream } from './piece-stream.ts';
import { measureStaged } from './prepare-staged.ts';
import { Staging } from './staging.ts';
import { DiskHealth } from './store-health.ts';
import { corrupt, readFault, storeFault } from './store-faults.ts';
import { attemptGeneration } from './stored-name.ts';
import { fileCopy, type StoredCopy, verified } from './stored-copy.ts';

export interface LocalStoreOptions {
  /** ROOTFS_OUTPUT_DIR. Made, with its parents, when it is not there. */
  readonly directory: string;
  /** Who owns finished files: root and the service's group. Absent when we are not root. */
  readonly owner?: Owner;
  readonly index: BlobIndex;
  readonly addon?: Addon;
  /** For a process that only opens artifacts: nothing is made or probed. */
  readonly readOnly?: boolean;
  readonly io?: DurableIo;
}

interface Call {
  readonly signal: AbortSignal;
}

const FILE_MODE = 0o440;
const ROOT_MODE = 0o750;

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

  constructor(root: Directory, io: DurableIo, options: LocalStoreOptions) {
    this.#root = root;
    this.#io = io;
    this.#options = options;
    this.#health = new DiskHealth(io, root);
    this.#staging = new Staging(io, root, options.directory);
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

  async commit(
    staged: StagedArtifact,
    options: Call & { readonly tenantId: TenantId; readonly encrypt: boolean },
  ): Promise<StoredBlob> {
    this.#assertWritable();
    await this.#health.assertHealthy(options.signal);
    try {
      return await this.#commitPlain(staged, options);
    } catch (reason) {
      throw storeFault(reason, 'commit the artifact');
    }
  }

  async #commitPlain(
    staged: StagedArtifact,
    { tenantId, signal }: Call & { readonly tenantId: TenantId },
  ): Promise<StoredBlob> {
    const { handle, request } = staged;
    // Before the sync, which then makes owner and mode durable as well.
    await this.#io.seal(handle, FILE_MODE, this.#options.owner);
    const { digest, sizeBytes } = await measureStaged(handle, this.#hashing(signal), () =>
      this.#health.sync(handle),
    );
    const known = await this.#options.index.findPresent(tenantId, digest, { signal });
    await using at = await this.#staging.enter(request);
    if (known !== undefined && known.dataKeyId === undefined) {
      if ((await this.storedSize(tenantId, known, { signal })) === sizeBytes) {
        await this.#staging.drop(at);
        return known;
      }
    }
    const blob = {
      digest,
      sizeBytes,
      storedBytes: sizeBytes,
      generation: attemptGeneration(request),
    };
    if ((await this.#blobs.place(at, handle, tenantId, blob)) === 'existing') {
      await this.#assertSame(tenantId, blob, signal);
    }
    await this.#staging.drop(at);
    return blob;
  }

  /** Two artifacts of one attempt may hold the same bytes; anything else there is an alarm. */
  async #assertSame(tenantId: TenantId, blob: StoredBlob, signal: AbortSignal): Promise<void> {
    await using existing = await this.#blobs.open(tenantId, blob);
    const { size } = await existing.stat();
    const isSame =
      size === blob.sizeBytes &&
      (await hashFile(existing, size, this.#hashing(signal))) === blob.digest;
    if (isSame) return;
    throw new BuilderdError(
      'storage.failed',
      'Cannot commit the artifact: its name holds other bytes than its digest says',
    );
  }

  async open(
    tenantId: TenantId,
    blob: StoredBlob,
    options: Call & { readonly range?: BlobRange; readonly verify?: boolean },
  ): Promise<Readable> {
    const range = options.range ?? { start: 0, end: blob.sizeBytes - 1 };
    checkRange(range, blob.sizeBytes, options.range === undefined);
    const copy = await this.#openCopy(tenantId, blob);
    if (copy.storedBytes !== blob.storedBytes) {
      await copy.close();
      throw corrupt(`its file has ${copy.storedBytes} bytes instead of ${blob.storedBytes}`);
    }
    const plain = copy.read(range);
    const isChecked = options.verify === true && options.range === undefined;
    return pieceStream(isChecked ? verified(plain, digestHex(blob.digest)) : plain, options.signal);
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

  async recode(): Promise<StoredBlob> {
    throw new BuilderdError('not_supported', 'Cannot store an artifact again: it is not built yet');
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

  #hashing(signal: AbortSignal) {
    return { io: this.#io, addon: this.#options.addon, signal };
  }

  #assertWritable(): void {
    if (this.#options.readOnly !== true) return;
    throw new BuilderdError('internal', 'Cannot change the artifact store: it is open for reading');
  }
}

/** An empty artifact has no range; as a whole it is 0 to -1. */
function checkRange({ start, end }: BlobRange, sizeBytes: number, isWhole: boolean): void {
  const isInside = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0;
  if (isInside && end < sizeBytes && (isWhole || start <= end)) return;
  throw new BuilderdError('api.invalid', 'Cannot read the artifact: the range lies outside of it');
}
