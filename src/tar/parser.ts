import { type ByteString, bytesFrom } from '../core/bytes.ts';
import { BuilderdError } from '../core/errors.ts';
import type { TarEntry, TarHandler } from './entry.ts';
import { malformed, overLimit } from './faults.ts';
import {
  BLOCK_BYTES,
  checksumMatches,
  headerFormat,
  headerName,
  isZeroBlock,
} from './header-block.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits, TarUsage } from './limits.ts';
import { readMember, readSize } from './member.ts';
import { type PaxRecords, type PaxSparse, parsePax } from './pax.ts';
import { checkSparseMap, readOldGnuPairs, type SparseMap, TextMapReader } from './sparse.ts';

type State =
  /** A header block, or the first or second zero block, comes next. */
  | 'header'
  /** The body of a PAX or GNU long-name header. */
  | 'meta'
  /** An extension block of an old GNU sparse header. */
  | 'sparse-block'
  /** The map in front of the content of a sparse file, PAX version 1.0. */
  | 'sparse-map'
  | 'content'
  | 'padding'
  /** After the end marker: nothing is interpreted any more. */
  | 'end';

const NONE = '' as ByteString;
const EMPTY = Buffer.alloc(0);

/**
 * A push parser for tar streams: v7, ustar, star, GNU and PAX. Synchronous; calls the handler in
 * archive order, whatever the sizes of the chunks. Content is handed on in place, never copied.
 *
 * Every byte is foreign. Whatever breaks the format or could be read in two ways is refused with
 * `archive.malformed`, whatever is too large with `archive.limit`. After a fault (also one of the
 * handler's) the parser stays broken: every later call throws the same fault.
 */
export class TarParser {
  readonly #handler: TarHandler;
  readonly #limits: TarLimits;
  readonly #usage: TarUsage;
  #fault: unknown;
  #state: State = 'header';
  /** A block that arrives in pieces. */
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blockLength = 0;
  #afterZeroBlock = false;
  #paddingLeft = 0;
  #paddingSize = 0;

  #metaType = '';
  #metaOwner = NONE;
  #metaSize = 0;
  #meta = EMPTY;
  #metaLength = 0;
  #pax: PaxRecords | undefined;
  #longName: ByteString | undefined;
  #longLink: ByteString | undefined;

  #name = NONE;
  /** Stored bytes of the current member still to come. */
  #storedLeft = 0;
  #offset = 0;
  #sparseEntry: TarEntry | undefined;
  #sparseMap: number[] = [];
  #textMap: TextMapReader | undefined;
  #textMapBytes = 0;
  #segments: SparseMap | undefined;
  #segmentIndex = 0;
  #segmentLeft = 0;

  constructor(
    handler: TarHandler,
    limits: TarLimits = DEFAULT_TAR_LIMITS,
    usage: TarUsage = new TarUsage(),
  ) {
    this.#handler = handler;
    this.#limits = limits;
    this.#usage = usage;
  }

  push(chunk: Buffer): void {
    if (this.#fault !== undefined) throw this.#fault;
    try {
      this.#consume(chunk);
    } catch (reason) {
      this.#fault = reason;
      throw reason;
    }
  }

  /** The stream has ended. Throws `archive.malformed` when it stopped within a member. */
  finish(): void {
    if (this.#fault !== undefined) throw this.#fault;
    const state = this.#state;
    const betweenMembers = state === 'header' && this.#blockLength === 0;
    // As Go's reader: the padding of the last member may be missing as a whole.
    const unpadded = state === 'padding' && this.#paddingLeft === this.#paddingSize;
    if (state !== 'end' && !betweenMembers && !unpadded) {
      throw malformed(this.#name, 'the archive ends in the middle of it');
    }
    this.#refusePending('the archive ends after an extended header');
  }

  #consume(chunk: Buffer): void {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      switch (this.#state) {
        case 'header':
        case 'sparse-block':
          at = this.#takeBlock(chunk, at, end);
          break;
        case 'meta':
          at = this.#takeMeta(chunk, at, end);
          break;
        case 'sparse-map':
          at = this.#takeSparseMap(chunk, at, end);
          break;
        case 'content':
          at = this.#takeContent(chunk, at, end);
          break;
        case 'padding': {
          const take = Math.min(this.#paddingLeft, end - at);
          at += take;
          this.#paddingLeft -= take;
          if (this.#paddingLeft === 0) this.#state = 'header';
          break;
        }
        case 'end':
          return;
      }
    }
  }

  #takeBlock(chunk: Buffer, at: number, end: number): number {
    let block = chunk;
    let start = at;
    let next = at + BLOCK_BYTES;
    if (this.#blockLength > 0 || next > end) {
      const take = Math.min(BLOCK_BYTES - this.#blockLength, end - at);
      chunk.copy(this.#block, this.#blockLength, at, at + take);
      this.#blockLength += take;
      next = at + take;
      if (this.#blockLength < BLOCK_BYTES) return next;
      this.#blockLength = 0;
      block = this.#block;
      start = 0;
    }
    if (this.#state === 'header') this.#header(block, start);
    else this.#sparseBlock(block, start);
    return next;
  }

  #header(block: Buffer, at: number): void {
    if (block[at] === 0 && isZeroBlock(block, at)) {
      this.#refusePending('the archive ends after an extended header');
      if (this.#afterZeroBlock) this.#state = 'end';
      this.#afterZeroBlock = true;
      return;
    }
    // A lone zero block inside the archive: readers disagree whether it is the end.
    if (this.#afterZeroBlock) throw malformed(this.#name, 'data follows a single end block');
    if (!checksumMatches(block, at)) {
      throw malformed(this.#name, 'the header after it has a wrong checksum');
    }
    const type = String.fromCharCode(block[at + 156] ?? 0);
    if (type === 'x' || type === 'g' || type === 'L' || type === 'K') {
      this.#metaHeader(block, at, type);
    } else {
      this.#memberHeader(block, at, type);
    }
  }

  #refusePending(fact: string): void {
    if (this.#pax ?? this.#longName ?? this.#longLink) throw malformed(this.#metaOwner, fact);
  }

  #metaHeader(block: Buffer, at: number, type: string): void {
    const owner = headerName(block, at, headerFormat(block, at));
    this.#name = owner;
    this.#metaOwner = owner;
    if (type === 'g') {
      this.#refusePending('a global header stands between an extended header and its member');
      this.#countEntry(owner);
    }
    const pending = type === 'x' ? this.#pax : type === 'L' ? this.#longName : this.#longLink;
    if (type !== 'g' && pending !== undefined) {
      throw malformed(owner, `two headers of type ${type} stand before one member`);
    }
    const size = readSize(block, at + 124, owner);
    if (size > this.#limits.maxMetaBytes) {
      throw overLimit(
        owner,
        `its extended header has more than ${this.#limits.maxMetaBytes} bytes`,
      );
    }
    this.#metaType = type;
    this.#metaSize = size;
    this.#metaLength = 0;
    this.#setPadding(size);
    if (size > 0) this.#state = 'meta';
    else this.#metaDone(EMPTY, 0, 0);
  }

  #takeMeta(chunk: Buffer, at: number, end: number): number {
    if (this.#metaLength === 0 && end - at >= this.#metaSize) {
      this.#metaDone(chunk, at, at + this.#metaSize);
      return at + this.#metaSize;
    }
    const take = Math.min(this.#metaSize - this.#metaLength, end - at);
    const needed = this.#metaLength + take;
    if (needed > this.#meta.length) {
      // Grows with what has really arrived, not with what the header promises.
      const grown = Buffer.allocUnsafe(Math.max(2 * this.#meta.length, needed, 4096));
      this.#meta.copy(grown, 0, 0, this.#metaLength);
      this.#meta = grown;
    }
    chunk.copy(this.#meta, this.#metaLength, at, at + take);
    this.#metaLength = needed;
    if (needed === this.#metaSize) this.#metaDone(this.#meta, 0, needed);
    return at + take;
  }

  #metaDone(body: Buffer, start: number, end: number): void {
    this.#state = this.#paddingLeft > 0 ? 'padding' : 'header';
    switch (this.#metaType) {
      case 'x':
        this.#pax = parsePax(body, start, end, this.#metaOwner, this.#limits);
        break;
      case 'g':
        // Checked and dropped: global records would change members of other origin, and
        // containerd ignores them too.
        parsePax(body, start, end, this.#metaOwner, this.#limits);
        break;
      case 'L':
        this.#longName = this.#longText(body, start, end);
        break;
      default:
        this.#longLink = this.#longText(body, start, end);
        break;
    }
  }

  #longText(body: Buffer, start: number, end: number): ByteString {
    let stop = end;
    while (stop > start && body[stop - 1] === 0) stop--;
    const text = bytesFrom(body, start, stop);
    if (text.length === 0) throw malformed(this.#metaOwner, 'its GNU long name is empty');
    if (text.includes('\0')) throw malformed(this.#metaOwner, 'its GNU long name holds a NUL');
    return text;
  }

  #memberHeader(block: Buffer, at: number, type: string): void {
    const { entry, storedBytes } = readMember(
      block,
      at,
      type,
      { pax: this.#pax, longName: this.#longName, longLink: this.#longLink },
      this.#limits,
    );
    const sparse = this.#pax?.sparse;
    this.#pax = undefined;
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#name = entry.name;
    this.#count(entry);
    this.#setPadding(storedBytes);
    this.#storedLeft = storedBytes;
    if (type === 'S') this.#startOldSparse(block, at, entry);
    else if (sparse !== undefined) this.#startPaxSparse(sparse, entry);
    else this.#announce(entry, undefined);
  }

  #count(entry: TarEntry): void {
    const { name, size } = entry;
    const limits = this.#limits;
    const usage = this.#usage;
    this.#countEntry(name);
    usage.nameBytes += name.length + entry.linkName.length;
    if (usage.nameBytes > limits.maxTotalNameBytes) {
      throw overLimit(name, `all names together exceed ${limits.maxTotalNameBytes} bytes`);
    }
    for (const xattr of entry.xattrs) usage.xattrBytes += xattr.name.length + xattr.value.length;
    if (usage.xattrBytes > limits.maxXattrTotalBytes) {
      throw overLimit(
        name,
        `all extended attributes together exceed ${limits.maxXattrTotalBytes} bytes`,
      );
    }
    if (size > limits.maxFileBytes) {
      throw overLimit(name, `its ${size} bytes exceed the limit of ${limits.maxFileBytes}`);
    }
    usage.logicalBytes += size;
    if (usage.logicalBytes > limits.maxTotalLogicalBytes) {
      throw overLimit(
        name,
        `all files together exceed the limit of ${limits.maxTotalLogicalBytes} bytes`,
      );
    }
  }

  #countEntry(name: ByteString): void {
    if (++this.#usage.entries > this.#limits.maxEntries) {
      throw overLimit(name, `it is beyond the limit of ${this.#limits.maxEntries} entries`);
    }
  }

  #setPadding(size: number): void {
    this.#paddingSize = (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
    this.#paddingLeft = this.#paddingSize;
  }

  #announce(entry: TarEntry, segments: SparseMap | undefined): void {
    this.#sparseEntry = undefined;
    this.#offset = 0;
    this.#segments = segments;
    this.#segmentIndex = -2;
    this.#segmentLeft = 0;
    this.#handler.entry(entry);
    if (entry.kind === 'file' && this.#storedLeft > 0) {
      this.#state = 'content';
      return;
    }
    if (entry.kind === 'file') this.#handler.fileEnd();
    this.#state = this.#paddingLeft > 0 ? 'padding' : 'header';
  }

  #takeContent(chunk: Buffer, at: number, end: number): number {
    let take = Math.min(this.#storedLeft, end - at);
    if (this.#segments !== undefined) {
      while (this.#segmentLeft === 0) {
        this.#segmentIndex += 2;
        this.#offset = this.#segments[this.#segmentIndex] ?? 0;
        this.#segmentLeft = this.#segments[this.#segmentIndex + 1] ?? take;
      }
      take = Math.min(take, this.#segmentLeft);
      this.#segmentLeft -= take;
    }
    this.#handler.data(chunk, at, at + take, this.#offset);
    this.#offset += take;
    this.#storedLeft -= take;
    if (this.#storedLeft === 0) {
      this.#state = this.#paddingLeft > 0 ? 'padding' : 'header';
      this.#handler.fileEnd();
    }
    return at + take;
  }

  #startOldSparse(block: Buffer, at: number, entry: TarEntry): void {
    this.#sparseEntry = entry;
    this.#sparseMap = [];
    this.#sparsePairs(block, at + 386, 4, block[at + 482] !== 0);
  }

  #sparseBlock(block: Buffer, at: number): void {
    this.#sparsePairs(block, at, 21, block[at + 504] !== 0);
  }

  #sparsePairs(block: Buffer, start: number, count: number, more: boolean): void {
    const entry = this.#sparseEntry;
    if (entry === undefined) throw this.#lostState();
    const map = this.#sparseMap;
    readOldGnuPairs(block, start, count, map, entry.name, this.#limits.maxSparseSegments);
    this.#state = 'sparse-block';
    if (!more) this.#announceSparse(entry, map);
  }

  #startPaxSparse(sparse: PaxSparse, entry: TarEntry): void {
    const { major = 0, minor = 0 } = sparse;
    if (major === 1 && minor === 0 && sparse.map === undefined) {
      this.#sparseEntry = entry;
      this.#textMap = new TextMapReader(entry.name, this.#limits.maxSparseSegments);
      this.#textMapBytes = 0;
      this.#state = 'sparse-map';
      if (this.#storedLeft === 0) throw malformed(entry.name, 'its sparse map is missing');
      return;
    }
    const map = sparse.map ?? [];
    const count = sparse.segmentCount ?? map.length / 2;
    if (major !== 0 || minor > 1 || count !== map.length / 2) {
      throw malformed(entry.name, 'its sparse records do not fit together');
    }
    this.#announceSparse(entry, map);
  }

  #takeSparseMap(chunk: Buffer, at: number, end: number): number {
    const entry = this.#sparseEntry;
    const reader = this.#textMap;
    if (entry === undefined || reader === undefined) throw this.#lostState();
    const available = Math.min(this.#storedLeft, end - at);
    let take = reader.read(chunk, at, at + available);
    if (reader.done) {
      // The content starts at the next block boundary.
      const skip = (BLOCK_BYTES - ((this.#textMapBytes + take) % BLOCK_BYTES)) % BLOCK_BYTES;
      take += Math.min(skip, available - take);
    }
    this.#textMapBytes += take;
    this.#storedLeft -= take;
    if (reader.done && this.#textMapBytes % BLOCK_BYTES === 0) {
      this.#announceSparse(entry, reader.map);
    } else if (this.#storedLeft === 0) {
      throw malformed(entry.name, 'its sparse map does not end within its content');
    }
    return at + take;
  }

  #announceSparse(entry: TarEntry, map: SparseMap): void {
    checkSparseMap(map, entry.size, this.#storedLeft, entry.name);
    this.#textMap = undefined;
    this.#announce(entry, map);
  }

  #lostState(): BuilderdError {
    return new BuilderdError('internal', `Cannot read a tar: state ${this.#state} lost its entry`);
  }
}
