import { tmpdir } from 'node:os';
import type { FileHandle } from 'node:fs/promises';
import { sha256, digestAlgorithm, type Digest } from '../core/digest.ts';
import { asBuilderdError, BuilderdError } from '../core/errors.ts';
import type { Descriptor } from '../core/oci.ts';
import { detachedSignal, Scope } from '../core/scope.ts';
import { type Fetch, ingestRef, openIngest, writeBlob } from './blob-ingest.ts';
import type {
  BlobStore,
  ImageRecord,
  ImageRecords,
  IngestOptions,
  StoreCall,
  StoreSession,
} from './blob-store.ts';
import type { OpenIngest } from './content-writer.ts';
import { hasStatus } from './grpc-fault.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { ContentFiles } from './content-files.ts';
import { currentLeaseOwner, sweepStaleLeases } from './lease-owner.ts';
import { parseNamespace } from './namespaces.ts';
import type { NamespacedCall } from './rpc-channel.ts';

export interface StoreSessionOptions {
  readonly namespace: string;
  /** Longer than the work can last: a lease cannot be prolonged. */
  readonly leaseTtlMs: number;
  /** Becomes a label of the lease, so that whoever cleans up knows what it was for. */
  readonly purpose?: string;
  /** Where blobs are spooled when containerd's own files cannot be opened. Default: the temp dir. */
  readonly scratchDir?: string;
  /** Ends only the opening. */
  readonly signal?: AbortSignal;
  /**
   * Hears of a disposal that could not remove everything; the lease's expiry and the next session
   * make up for it. Disposal itself never throws, so as not to hide why the work failed. Default:
   * a process warning.
   */
  readonly onCleanupFault?: (fault: BuilderdError) => void;
}

const OPEN_LIMIT_MS = 30_000;
const CLEANUP_LIMIT_MS = 60_000;

/**
 * Opens a lease in the namespace, after sweeping those of dead processes of ours; disposal ends it
 * and throws broken ingests away.
 */
export async function openStoreSession(
  client: ContainerdClient,
  options: StoreSessionOptions,
): Promise<StoreSession> {
  const namespace = parseNamespace(options.namespace);
  const signal = options.signal ?? detachedSignal(OPEN_LIMIT_MS);
  const owner = await currentLeaseOwner();
  const contentRoot = await client.probe.contentRoot({ signal });
  await sweepStaleLeases(client.leases, { namespace, signal });
  const { id } = await client.leases.create(
    {
      owner,
      ttlMs: options.leaseTtlMs,
      ...(options.purpose === undefined ? {} : { purpose: options.purpose }),
    },
    { namespace, signal },
  );
  const files = new ContentFiles(client.content, contentRoot, options.scratchDir ?? tmpdir());
  const onCleanupFault = options.onCleanupFault ?? ((fault) => process.emitWarning(fault.message));
  return new LeasedSession(client, { namespace, lease: id }, files, onCleanupFault);
}

interface LeaseScope {
  readonly namespace: string;
  readonly lease: string;
}

class LeasedSession implements StoreSession {
  readonly blobs: LeasedBlobs;
  readonly images: LeasedImages;
  readonly #client: ContainerdClient;
  readonly #scope: LeaseScope;
  readonly #onCleanupFault: (fault: BuilderdError) => void;
  #disposal: Promise<void> | undefined;

  constructor(
    client: ContainerdClient,
    scope: LeaseScope,
    files: ContentFiles,
    onCleanupFault: (fault: BuilderdError) => void,
  ) {
    this.#client = client;
    this.#scope = scope;
    this.#onCleanupFault = onCleanupFault;
    this.blobs = new LeasedBlobs(client, scope, files);
    this.images = new LeasedImages(client, scope);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  async #dispose(): Promise<void> {
    const { namespace, lease } = this.#scope;
    const call = {
      namespace,
      signal: detachedSignal(CLEANUP_LIMIT_MS),
      timeoutMs: CLEANUP_LIMIT_MS,
    };
    await using scope = new Scope((name, reason) => {
      this.#onCleanupFault(asBuilderdError(reason, name));
    });
    scope.defer(`delete lease ${lease}`, () => {
      // An idle daemon collects nothing by itself: work that stored blobs and gave no image a name
      // must not leave them behind, so that deletion waits for the collection.
      const sync = this.blobs.stored && !this.images.named;
      return this.#client.leases.delete(lease, { sync }, call);
    });
    scope.defer('abort broken ingests', () => this.blobs.abortRemains(call));
  }
}

class LeasedBlobs implements BlobStore {
  /** True once bytes were written under the lease. */
  stored = false;
  readonly #client: ContainerdClient;
  readonly #scope: LeaseScope;
  readonly #files: ContentFiles;
  /** References of broken ingests that a repeat could go on with. */
  readonly #remains = new Set<string>();

  constructor(client: ContainerdClient, scope: LeaseScope, files: ContentFiles) {
    this.#client = client;
    this.#scope = scope;
    this.#files = files;
  }

  async stat(digest: Digest, call: StoreCall): Promise<{ size: number } | undefined> {
    const { content, leases } = this.#client;
    const scoped = this.#call(call);
    if ((await content.info(digest, scoped)) === undefined) return undefined;
    await leases.addResource(this.#scope.lease, { type: 'content', id: digest }, scoped);
    // Only now it cannot be collected any more: it may have been, in between.
    const info = await content.info(digest, scoped);
    return info === undefined ? undefined : { size: info.size };
  }

  async ingest(descriptor: Descriptor, fetch: Fetch, options: IngestOptions): Promise<void> {
    if (digestAlgorithm(descriptor.digest) !== 'sha256') {
      throw new BuilderdError(
        'not_supported',
        `Cannot store blob ${descriptor.digest}: containerd stores sha256 only`,
      );
    }
    if (await this.#hasAll(descriptor, options)) return this.#labelExisting(descriptor, options);
    const call = this.#call(options);
    const opened = await openIngest(this.#client.content, descriptor, call, () =>
      this.#hasAll(descriptor, options),
    );
    if (opened === 'exists') return this.#labelExisting(descriptor, options);
    await this.#write(opened, descriptor, fetch, options);
  }

  async #write(
    { writer, state }: OpenIngest,
    descriptor: Descriptor,
    fetch: Fetch,
    options: IngestOptions,
  ): Promise<void> {
    const ref = ingestRef(descriptor);
    let resumable = false;
    this.stored = true;
    try {
      await using lock = writer;
      await writeBlob({ writer: lock, state }, descriptor, fetch, options, (remains) => {
        resumable = remains === 'resumable';
      });
      this.#remains.delete(ref);
    } catch (reason) {
      // The writer is closed here: nobody of us holds the reference any more.
      this.#remains.add(ref);
      if (!resumable || options.signal.aborted) await this.#abort(ref);
      // Somebody stored it under another reference.
      if (hasStatus(reason, 'ALREADY_EXISTS') && (await this.#hasAll(descriptor, options))) {
        return this.#labelExisting(descriptor, options);
      }
      throw reason;
    }
  }

  async read(descriptor: Descriptor, maxBytes: number, call: StoreCall): Promise<Buffer> {
    const { digest, size } = descriptor;
    if (size > maxBytes) {
      throw new BuilderdError(
        'source.too_large',
        `Cannot read blob ${digest}: it has ${size} bytes, at most ${maxBytes} are allowed`,
      );
    }
    const parts: Buffer[] = [];
    let received = 0;
    for await (const data of this.#client.content.read(digest, { offset: 0 }, this.#call(call))) {
      received += data.length;
      if (received > size) break;
      parts.push(data);
    }
    if (received !== size) {
      throw new BuilderdError(
        'source.size_mismatch',
        `Cannot read blob ${digest}: the store has ${received > size ? 'more' : received} bytes, want ${size}`,
      );
    }
    const bytes = Buffer.concat(parts, size);
    const actual = sha256(bytes);
    if (digestAlgorithm(digest) === 'sha256' && actual === digest) return bytes;
    throw new BuilderdError(
      'source.digest_mismatch',
      `Cannot read blob ${digest}: the stored bytes have digest ${actual}`,
    );
  }

  open(descriptor: Descriptor, call: StoreCall): Promise<FileHandle> {
    return this.#files.open(descriptor, this.#call(call));
  }

  setLabels(
    digest: Digest,
    labels: Readonly<Record<string, string>>,
    call: StoreCall,
  ): Promise<void> {
    return this.#client.content.setLabels(digest, labels, this.#call(call));
  }

  /** For disposal: what could have been resumed never will be. */
  async abortRemains(call: NamespacedCall): Promise<void> {
    for (const ref of this.#remains) await this.#client.content.abort(ref, call);
  }

  /** True when it is there in full and leased. Throws `source.size_mismatch` for another size. */
  async #hasAll({ digest, size }: Descriptor, call: StoreCall): Promise<boolean> {
    const found = await this.stat(digest, call);
    if (found === undefined) return false;
    if (found.size === size) return true;
    throw new BuilderdError(
      'source.size_mismatch',
      `Cannot use blob ${digest}: the store has ${found.size} bytes of it, want ${size}`,
    );
  }

  async #labelExisting({ digest, size }: Descriptor, options: IngestOptions): Promise<void> {
    await this.setLabels(digest, options.labels ?? {}, options);
    options.onBytes?.(size);
  }

  /** Never throws, so as not to hide why: what it cannot remove, disposal tries again and tells. */
  async #abort(ref: string): Promise<void> {
    const call = { ...this.#scope, signal: detachedSignal(CLEANUP_LIMIT_MS) };
    await this.#client.content.abort(ref, call).then(
      () => this.#remains.delete(ref),
      () => undefined,
    );
  }

  #call({ signal }: StoreCall): NamespacedCall {
    return { ...this.#scope, signal };
  }
}

class LeasedImages implements ImageRecords {
  /** True once an image record holds what the session stored. */
  named = false;
  readonly #client: ContainerdClient;
  readonly #scope: LeaseScope;

  constructor(client: ContainerdClient, scope: LeaseScope) {
    this.#client = client;
    this.#scope = scope;
  }

  get(name: string, { signal }: StoreCall): Promise<ImageRecord | undefined> {
    return this.#client.images.get(name, { ...this.#scope, signal });
  }

  async put(record: ImageRecord, { signal }: StoreCall): Promise<void> {
    await this.#client.images.put(record, { ...this.#scope, signal });
    this.named = true;
  }

  touch(name: string, { signal }: StoreCall): Promise<void> {
    return this.#client.images.touch(name, { ...this.#scope, signal });
  }
}
