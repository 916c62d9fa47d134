import type { FileHandle } from 'node:fs/promises';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import { type BuildId, isUuid, newId, parseBuildId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { StagedArtifact, StagedAttempt, StageRequest } from './artifact-store.ts';
import { Directory } from './directory.ts';
import type { DurableIo } from './durable-io.ts';
import { checkStageRequest } from './stored-name.ts';
import { storeFault } from './store-faults.ts';

const STAGING = '.staging';
/** Copies that are being stored again; a crash leaves them, `tidy` removes them. */
const SCRATCH = '.scratch';
const STALE_MS = 24 * 60 * 60_000;
/** Tries against a sweep that takes empty directories away. */
const MAX_TRIES = 10;
/** Root alone: what lies here is unfinished, unhashed and not yet encrypted. */
const PRIVATE = { mode: 0o700, owner: undefined };

/** A name below `.staging/<build>/<attempt>/`, with the directory that holds it open. */
export interface StagedName extends AsyncDisposable {
  readonly directory: Directory;
  readonly name: string;
}

/** The private directory where attempts write, on the file system that commits what they wrote. */
export class Staging {
  readonly #io: DurableIo;
  readonly #root: Directory;
  readonly #shownPath: string;

  constructor(io: DurableIo, root: Directory, shownPath: string) {
    this.#io = io;
    this.#root = root;
    this.#shownPath = shownPath;
  }

  async stage(request: StageRequest, signal: AbortSignal): Promise<StagedArtifact> {
    checkStageRequest(request);
    throwIfAborted(signal, 'stage an artifact');
    await using at = await this.enter(request);
    const handle = await this.create(at);
    const { buildId, attempt, name } = request;
    return {
      handle,
      request,
      path: `${this.#shownPath}/${STAGING}/${buildId}/${attempt}/${name}`,
      [Symbol.asyncDispose]: async () => {
        await handle.close();
        await using again = await this.enter(request);
        await this.drop(again);
      },
    };
  }

  /** Opens the attempt's directory, making it when it is not there. */
  async enter(request: StageRequest): Promise<StagedName> {
    checkStageRequest(request);
    const buildId = parseBuildId(request.buildId);
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#enterOnce(buildId, request);
      } catch (reason) {
        // A sweep of the build's earlier attempt took the empty directory from under us.
        if (errnoOf(reason) === 'ENOENT' && tries < MAX_TRIES) continue;
        throw storeFault(reason, 'stage an artifact');
      }
    }
  }

  async #enterOnce(buildId: BuildId, request: StageRequest): Promise<StagedName> {
    await using staging = await this.#root.childMade(STAGING, PRIVATE);
    await using build = await staging.childMade(buildId, PRIVATE);
    const directory = await build.childMade(String(request.attempt), PRIVATE);
    return {
      directory,
      name: request.name,
      [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
    };
  }

  /** A name of its own for a copy that no attempt makes. */
  async enterScratch(): Promise<StagedName> {
    try {
      const directory = await this.#root.childMade(SCRATCH, PRIVATE);
      return {
        directory,
        name: newId(),
        [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
      };
    } catch (reason) {
      throw storeFault(reason, 'store an artifact again');
    }
  }

  /** Removes what died with its process. By the host's clock: a copy takes hours at most. */
  async tidy(nowMs: number): Promise<void> {
    await using directory = await this.#childIfThere(this.#root, SCRATCH);
    for (const { name } of (await directory?.list()) ?? []) {
      if (directory === undefined || !isUuid(name)) continue;
      const changedMs = await this.#changedMs(directory, name);
      if (changedMs !== undefined && changedMs < nowMs - STALE_MS) {
        await this.drop({ directory, name });
      }
    }
  }

  /** Undefined when its maker has ended with it since it was listed. */
  async #changedMs(directory: Directory, name: string): Promise<number | undefined> {
    try {
      await using handle = await this.#io.openForReading(directory.at(name));
      return (await handle.stat()).mtimeMs;
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw storeFault(reason, 'tidy the staging directory');
    }
  }

  async create({ directory, name }: Pick<StagedName, 'directory' | 'name'>): Promise<FileHandle> {
    try {
      return await this.#io.openNew(directory.at(name));
    } catch (reason) {
      if (errnoOf(reason) !== 'EEXIST') throw storeFault(reason, 'stage an artifact');
      throw new BuilderdError('api.conflict', 'Cannot stage an artifact: its name is staged', {
        cause: reason,
      });
    }
  }

  /** Removes the name; that it is gone already is fine. */
  async drop({ directory, name }: Pick<StagedName, 'directory' | 'name'>): Promise<void> {
    try {
      await this.#io.unlink(directory.at(name));
    } catch (reason) {
      if (errnoOf(reason) !== 'ENOENT') throw storeFault(reason, 'remove a staged artifact');
    }
  }

  async attempts(signal: AbortSignal): Promise<readonly StagedAttempt[]> {
    const found: StagedAttempt[] = [];
    await using staging = await this.#childIfThere(this.#root, STAGING);
    if (staging === undefined) return found;
    for (const build of await staging.list()) {
      throwIfAborted(signal, 'list staged artifacts');
      if (!isUuid(build.name) || !build.isDirectory()) continue;
      await using directory = await this.#childIfThere(staging, build.name);
      for (const { name } of (await directory?.list()) ?? []) {
        if (!/^[1-9]\d{0,8}$/.test(name)) continue;
        found.push({ buildId: parseBuildId(build.name), attempt: Number(name) });
      }
    }
    return found;
  }

  /** One level of files is all that an attempt's directory can hold. */
  async discard({ buildId, attempt }: StagedAttempt, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal, 'remove staged artifacts');
    await using staging = await this.#childIfThere(this.#root, STAGING);
    if (staging === undefined) return;
    await using build = await this.#childIfThere(staging, parseBuildId(buildId));
    if (build === undefined) return;
    {
      await using directory = await this.#childIfThere(build, String(attempt));
      for (const { name } of (await directory?.list()) ?? []) {
        if (directory !== undefined) await this.drop({ directory, name });
      }
    }
    await this.#removeEmpty(build, String(attempt));
    await this.#removeEmpty(staging, buildId);
  }

  async #childIfThere(parent: Directory, name: string): Promise<Directory | undefined> {
    try {
      return await parent.child(name);
    } catch (reason) {
      if (errnoOf(reason) === 'ENOENT') return undefined;
      throw storeFault(reason, 'read the staging directory');
    }
  }

  async #removeEmpty(parent: Directory, name: string): Promise<void> {
    try {
      await this.#io.removeDirectory(parent.at(name));
    } catch (reason) {
      const errno = errnoOf(reason);
      if (errno === 'ENOENT' || errno === 'ENOTEMPTY') return;
      throw storeFault(reason, 'remove a staging directory');
    }
  }
}
