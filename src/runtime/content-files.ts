import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { isAbsolute, join, normalize } from 'node:path';
import { digestAlgorithm, digestHex, type Digest } from '../core/digest.ts';
import { BuilderdError, errnoOf } from '../core/errors.ts';
import type { Descriptor } from '../core/oci.ts';
import type { Content } from './content.ts';
import type { NamespacedCall } from './rpc-channel.ts';

/** How much of a blob is compared when we find out whether the directory is the daemon's. */
const PROBE_BYTES = 64 * 1024;

/** What a crash between the making and the unlinking of a spooled blob leaves. */
export const SPOOLED_NAME = /^\.builderd-blob-[0-9a-f-]{36}$/;

/**
 * Opens blobs for reading: containerd's own file where that is proved to be possible, else a copy
 * fetched through the socket. A remote, chrooted or otherwise hidden store shows in the probe.
 */
export class ContentFiles {
  readonly #content: Content;
  readonly #root: string | undefined;
  readonly #scratchDir: string;
  #direct: Promise<boolean> | undefined;

  /** `root` is what the content plugin exports, or undefined if it exports nothing. */
  constructor(content: Content, root: string | undefined, scratchDir: string) {
    this.#content = content;
    this.#root = root !== undefined && isAbsolute(root) ? normalize(root) : undefined;
    this.#scratchDir = scratchDir;
  }

  /** A fresh read-only descriptor at offset 0. The bytes are not verified. */
  async open(descriptor: Descriptor, call: NamespacedCall): Promise<FileHandle> {
    if (descriptor.size > 0) {
      // One probe for all: its verdict holds for the store, not for the blob it was made with.
      this.#direct ??= this.#probe(descriptor, call);
      let direct: boolean;
      try {
        direct = await this.#direct;
      } catch (reason) {
        this.#direct = undefined;
        throw reason;
      }
      const file = direct ? await this.#openBlobFile(descriptor) : undefined;
      if (file !== undefined) return file;
    }
    return this.#spool(descriptor, call);
  }

  /** True when the file that we open and what the daemon serves begin with the same bytes. */
  async #probe(descriptor: Descriptor, call: NamespacedCall): Promise<boolean> {
    await using file = await this.#openBlobFile(descriptor);
    if (file === undefined) return false;
    const lengthBytes = Math.min(PROBE_BYTES, descriptor.size);
    const ours = Buffer.alloc(lengthBytes);
    const { bytesRead } = await file.read(ours, 0, lengthBytes, 0);
    const theirs: Buffer[] = [];
    for await (const data of this.#content.read(
      descriptor.digest,
      { offset: 0, lengthBytes },
      call,
    )) {
      theirs.push(data);
    }
    return bytesRead === lengthBytes && Buffer.concat(theirs).equals(ours);
  }

  /** Undefined when there is no such regular file of that size, or we may not open it. */
  async #openBlobFile({ digest, size }: Descriptor): Promise<FileHandle | undefined> {
    if (this.#root === undefined) return undefined;
    let file: FileHandle;
    try {
      // O_NONBLOCK: a FIFO in the wrong place must not hang us.
      file = await open(
        blobPath(this.#root, digest),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
    } catch (reason) {
      if (UNAVAILABLE_ERRNOS.has(errnoOf(reason) ?? '')) return undefined;
      throw reason;
    }
    const stat = await file.stat();
    if (stat.isFile() && stat.size === size) return file;
    await file.close();
    return undefined;
  }

  async #spool(descriptor: Descriptor, call: NamespacedCall): Promise<FileHandle> {
    const { digest, size } = descriptor;
    const path = join(this.#scratchDir, `.builderd-blob-${randomUUID()}`);
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    await using scratch = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    let reader: FileHandle | undefined;
    try {
      reader = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      await rm(path);
      let received = 0;
      for await (const data of this.#content.read(digest, { offset: 0 }, call)) {
        received += data.length;
        if (received > size) break;
        await scratch.appendFile(data);
      }
      if (received === size) return reader;
      throw new BuilderdError(
        'source.size_mismatch',
        `Cannot open blob ${digest}: containerd serves ${received > size ? 'more' : received} bytes, want ${size}`,
      );
    } catch (reason) {
      await reader?.close();
      await rm(path, { force: true });
      throw reason;
    }
  }
}

/** EIO and the like are faults of the disk and must be seen; these mean "not for us". */
const UNAVAILABLE_ERRNOS = new Set(['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'ELOOP', 'ENXIO']);

function blobPath(root: string, digest: Digest): string {
  return join(root, 'blobs', digestAlgorithm(digest), digestHex(digest));
}
