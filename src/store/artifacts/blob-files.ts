import type { FileHandle } from 'node:fs/promises';
import type { Digest } from '../../core/digest.ts';
import { errnoOf } from '../../core/errors.ts';
import { isUuid, parseTenantId, type TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { Generation, ListedFile } from './artifact-store.ts';
import { Directory } from './directory.ts';
import type { DurableIo, Owner } from './durable-io.ts';
import type { StagedName } from './staging.ts';
import type { DiskHealth } from './store-health.ts';
import { storeFault } from './store-faults.ts';
import { parseStoredFile, storedPath } from './stored-name.ts';

const DIRECTORY_MODE = 0o750;
/** Entries of the set below before it is forgotten: a fsync more, never one less. */
const MAX_KNOWN = 100_000;
/** Ours, beside the tenants' directories. */
const OWN_NAME = /^\.(?:staging|scratch|unhealthy|builderd-store|probe-[0-9a-f]{16})$/;

interface CopyKey {
  readonly digest: Digest;
  readonly generation: Generation;
}

/** The finished files: `<tenant>/sha256/<2 hex>/<hex>.<generation>`. */
export class BlobFiles {
  readonly #io: DurableIo;
  readonly #root: Directory;
  readonly #health: DiskHealth;
  readonly #owner: Owner | undefined;
  /** Directories whose own entry is known to be on disk. */
  readonly #durable = new Set<string>();

  constructor(use: {
    readonly io: DurableIo;
    readonly root: Directory;
    readonly health: DiskHealth;
    readonly owner: Owner | undefined;
  }) {
    this.#io = use.io;
    this.#root = use.root;
    this.#health = use.health;
    this.#owner = use.owner;
  }

  /**
   * Gives a finished, synced file its final name and makes the name durable. `existing` when the
   * name is taken by another file: the caller must look into it. A repeat for the same file is fine.
   */
  async place(
    staged: Pick<StagedName, 'directory' | 'name'>,
    handle: FileHandle,
    tenantId: TenantId,
    key: CopyKey,
  ): Promise<'placed' | 'existing'> {
    const path = storedPath(tenantId, key);
    await using directory = await this.#makeChain(path.directories);
    const final = directory.at(path.file);
    try {
      await this.#io.link(staged.directory.at(staged.name), final);
    } catch (reason) {
      const errno = errnoOf(reason);
      // ENOENT: an earlier commit of this file went on to remove the staged name.
      if (errno !== 'EEXIST' && errno !== 'ENOENT') throw reason;
    }
    await using found = await this.#io.openForReading(final);
    const [wanted, linked] = await Promise.all([
      handle.stat({ bigint: true }),
      found.stat({ bigint: true }),
    ]);
    // Also for a name that was there before: its maker may not have come as far as this sync.
    await this.#health.sync(directory.handle);
    return wanted.ino === linked.ino && wanted.dev === linked.dev ? 'placed' : 'existing';
  }

  /** Throws the file system's error: ENOENT when there is no such copy. */
  async open(tenantId: TenantId, key: CopyKey): Promise<FileHandle> {
    const path = storedPath(tenantId, key);
    await using directory = await this.#chain(path.directories);
    return await this.#io.openForReading(directory.at(path.file));
  }

  async remove(tenantId: TenantId, key: CopyKey): Promise<void> {
    const path = storedPath(tenantId, key);
    try {
      await using directory = await this.#chain(path.directories);
      await this.#io.unlink(directory.at(path.file));
    } catch (reason) {
      if (errnoOf(reason) !== 'ENOENT') throw storeFault(reason, 'remove an artifact');
    }
  }

  async *list(signal: AbortSignal): AsyncGenerator<ListedFile, void, void> {
    for (const { name } of await this.#root.list()) {
      if (OWN_NAME.test(name)) continue;
      if (isUuid(name)) yield* this.#listTenant(parseTenantId(name), signal);
      else yield { kind: 'foreign', name };
    }
  }

  async *#listTenant(
    tenantId: TenantId,
    signal: AbortSignal,
  ): AsyncGenerator<ListedFile, void, void> {
    await using tenant = await this.#childIfThere(this.#root, tenantId);
    for (const algorithm of (await tenant?.list()) ?? []) {
      const shown = `${tenantId}/${algorithm.name}`;
      if (algorithm.name !== 'sha256') {
        yield { kind: 'foreign', name: shown };
        continue;
      }
      await using directory = tenant && (await this.#childIfThere(tenant, 'sha256'));
      for (const { name } of (await directory?.list()) ?? []) {
        throwIfAborted(signal, 'list the artifact store');
        if (!/^[0-9a-f]{2}$/.test(name)) yield { kind: 'foreign', name: `${shown}/${name}` };
        else if (directory !== undefined) yield* this.#listPrefix(tenantId, directory, name);
      }
    }
  }

  async *#listPrefix(
    tenantId: TenantId,
    parent: Directory,
    prefix: string,
  ): AsyncGenerator<ListedFile, void, void> {
    await using directory = await this.#childIfThere(parent, prefix);
    if (directory === undefined) return;
    for (const { name } of await directory.list()) {
      const key = parseStoredFile(prefix, name);
      const storedBytes = key && (await this.#sizeOf(directory, name));
      if (key === undefined)
        yield { kind: 'foreign', name: `${tenantId}/sha256/${prefix}/${name}` };
      // Removed since it was listed, when it has no size.
      else if (storedBytes !== undefined) yield { kind: 'blob', tenantId, ...key, storedBytes };
    }
  }

  async #sizeOf(directory: Directory, name: string): Promise<number | undefined> {
    try {
      await using handle = await this.#io.openForReading(directory.at(name));
      return (await handle.stat()).size;
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw storeFault(reason, 'list the artifact store');
    }
  }

  async #childIfThere(parent: Directory, name: string): Promise<Directory | undefined> {
    try {
      return await parent.child(name);
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw storeFault(reason, 'list the artifact store');
    }
  }

  async #chain(names: readonly string[]): Promise<Directory> {
    return this.#walk(names, (parent, name) => parent.child(name));
  }

  async #makeChain(names: readonly string[]): Promise<Directory> {
    const known: string[] = [];
    return this.#walk(names, async (parent, name) => {
      const child = await parent.childMade(name, { mode: DIRECTORY_MODE, owner: this.#owner });
      known.push(name);
      const key = known.join('/');
      if (this.#durable.has(key)) return child;
      try {
        // Also when it was there before: its maker may have died before this.
        await this.#health.sync(parent.handle);
      } catch (reason) {
        await child[Symbol.asyncDispose]();
        throw reason;
      }
      if (this.#durable.size >= MAX_KNOWN) this.#durable.clear();
      this.#durable.add(key);
      return child;
    });
  }

  /** Goes down one component at a time, holding only the last. */
  async #walk(
    names: readonly string[],
    step: (parent: Directory, name: string) => Promise<Directory>,
  ): Promise<Directory> {
    let current = this.#root;
    for (const name of names) {
      const parent = current;
      try {
        current = await step(parent, name);
      } finally {
        if (parent !== this.#root) await parent[Symbol.asyncDispose]();
      }
    }
    return current;
  }
}
