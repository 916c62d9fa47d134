import { posix } from 'node:path';
import { BuilderdError } from '../../core/errors.ts';
import type { TarEntry, TarHandler } from '../../tar/entry.ts';
import { DEFAULT_TAR_LIMITS } from '../../tar/limits.ts';
import { TarParser } from '../../tar/parser.ts';
import { type LocalFile, readRange } from './local-file.ts';

/** Where a member's content lies in the archive file. */
export interface MemberRange {
  readonly start: number;
  readonly size: number;
}

/** Far above any image archive: 127 layers and their documents, for many images. */
const MAX_MEMBERS = 100_000;
const MAX_LINK_STEPS = 4;

/** The regular files of an uncompressed tar, found in one pass and read in place afterwards. */
export class ArchiveMembers {
  readonly #files: ReadonlyMap<string, MemberRange>;
  readonly #links: ReadonlyMap<string, string>;

  private constructor(files: ReadonlyMap<string, MemberRange>, links: ReadonlyMap<string, string>) {
    this.#files = files;
    this.#links = links;
  }

  /** Throws `archive.malformed`, `archive.limit`, `source.unsupported`. */
  static async scan(
    file: LocalFile,
    call: { readonly signal: AbortSignal },
  ): Promise<ArchiveMembers> {
    const collector = new Collector();
    const parser = new TarParser(collector, {
      ...DEFAULT_TAR_LIMITS,
      maxEntries: MAX_MEMBERS,
      maxTotalNameBytes: 32 * 1024 * 1024,
      maxTotalLogicalBytes: file.size,
    });
    for await (const chunk of readRange(file, 0, file.size, call)) {
      if (collector.chunkAt === 0) refuseCompressed(chunk);
      parser.push(chunk);
      collector.chunkAt += chunk.length;
    }
    parser.finish();
    return new ArchiveMembers(collector.files, collector.links);
  }

  /** Follows symlinks within the archive, as old `docker save` writes them. */
  find(name: string): MemberRange | undefined {
    let at = normalize(name);
    for (let step = 0; step <= MAX_LINK_STEPS; step += 1) {
      const found = at === undefined ? undefined : this.#files.get(at);
      if (found !== undefined || at === undefined) return found;
      const target = this.#links.get(at);
      at = target === undefined ? undefined : normalize(posix.join(posix.dirname(at), target));
    }
    return undefined;
  }

  /** Throws `source.invalid` when the archive lacks the member. */
  get(name: string): MemberRange {
    const found = this.find(name);
    if (found !== undefined) return found;
    throw new BuilderdError(
      'source.invalid',
      `Cannot read the image archive: it lacks ${JSON.stringify(name.slice(0, 200))}`,
    );
  }
}

class Collector implements TarHandler {
  /** Position in the file of the chunk that is being parsed. */
  chunkAt = 0;
  readonly files = new Map<string, MemberRange>();
  readonly links = new Map<string, string>();
  #name: string | undefined;
  #size = 0;
  #start: number | undefined;
  #next = 0;

  entry(entry: TarEntry): void {
    this.#name = normalize(entry.name);
    this.#size = entry.size;
    this.#start = undefined;
    this.#next = 0;
    if (entry.kind === 'symlink' && this.#name !== undefined) {
      this.#refuseSecond(this.#name);
      this.links.set(this.#name, entry.linkName);
    }
  }

  data(_chunk: Buffer, start: number, end: number, offset: number): void {
    const at = this.chunkAt + start;
    this.#start ??= at - offset;
    if (offset !== this.#next || at !== this.#start + offset) throw sparse();
    this.#next = offset + end - start;
  }

  fileEnd(): void {
    if (this.#next !== this.#size) throw sparse();
    if (this.#name === undefined) return;
    this.#refuseSecond(this.#name);
    this.files.set(this.#name, { start: this.#start ?? 0, size: this.#size });
  }

  #refuseSecond(name: string): void {
    if (!this.files.has(name) && !this.links.has(name)) return;
    throw new BuilderdError(
      'source.invalid',
      `Cannot read the image archive: it holds ${JSON.stringify(name.slice(0, 200))} twice`,
    );
  }
}

function sparse(): BuilderdError {
  return new BuilderdError(
    'source.unsupported',
    'Cannot read the image archive: it holds a sparse file',
  );
}

/** `./a/b` and `a//b` are `a/b`; undefined for a name that leaves the archive or is not printable ASCII. */
function normalize(name: string): string | undefined {
  if (name.startsWith('/') || !/^[\x20-\x7e]+$/.test(name)) return undefined;
  const path = posix.normalize(name);
  return path === '.' || path === '..' || path.startsWith('../') ? undefined : path;
}

function refuseCompressed(head: Buffer): void {
  if (head.length < 4) return;
  const magic = head.readUInt32BE(0);
  const isGzip = magic >>> 16 === 0x1f8b;
  if (!isGzip && magic !== 0x28b52ffd && magic !== 0xfd377a58) return;
  throw new BuilderdError(
    'source.unsupported',
    'Cannot read the image archive: the archive itself is compressed; decompress it first',
  );
}
