import { type ByteString, bytesFrom } from '../core/bytes.ts';
import type { Timestamp, Xattr } from './entry.ts';
import { malformed, overLimit } from './faults.ts';
import type { TarLimits } from './limits.ts';

/** What a PAX extended header says about the next member. Undefined: not mentioned. */
export class PaxRecords {
  path: ByteString | undefined = undefined;
  linkPath: ByteString | undefined = undefined;
  size: number | undefined = undefined;
  uid: number | undefined = undefined;
  gid: number | undefined = undefined;
  mtime: Timestamp | undefined = undefined;
  atime: Timestamp | undefined = undefined;
  devMajor: number | undefined = undefined;
  devMinor: number | undefined = undefined;
  xattrs: readonly Xattr[] = [];
  sparse: PaxSparse | undefined = undefined;
}

/** GNU.sparse.* records (GNU tar manual, "Storing Sparse Files", versions 0.0, 0.1 and 1.0). */
export class PaxSparse {
  /** The real name: `path` holds a made-up one for readers that do not know the format. */
  name: ByteString | undefined = undefined;
  major: number | undefined = undefined;
  minor: number | undefined = undefined;
  /** GNU.sparse.realsize or GNU.sparse.size. */
  realSize: number | undefined = undefined;
  segmentCount: number | undefined = undefined;
  /** Offset, length, offset, length, … of versions 0.0 and 0.1. */
  map: number[] | undefined = undefined;
}

const EQUALS = 0x3d;
const NEWLINE = 0x0a;
const SPACE = 0x20;
const NO_XATTRS: readonly Xattr[] = [];
const SCHILY_XATTR = 'SCHILY.xattr.';
const LIBARCHIVE_XATTR = 'LIBARCHIVE.xattr.';
const XATTR_NAME_MAX = 255;

/**
 * Parses the body `buffer[start, end)` of an extended header. Nothing is skipped: one record that
 * breaks the format refuses the archive, because readers that skip it see other members.
 */
export function parsePax(
  buffer: Buffer,
  start: number,
  end: number,
  owner: ByteString,
  limits: TarLimits,
): PaxRecords {
  return new PaxParser(buffer, owner, limits).parse(start, end);
}

class PaxParser {
  readonly #buffer: Buffer;
  readonly #owner: ByteString;
  readonly #limits: TarLimits;
  readonly #records = new PaxRecords();
  readonly #seen = new Set<string>();
  #xattrs: Map<ByteString, Xattr> | undefined;
  #xattrBytes = 0;

  constructor(buffer: Buffer, owner: ByteString, limits: TarLimits) {
    this.#buffer = buffer;
    this.#owner = owner;
    this.#limits = limits;
  }

  parse(start: number, end: number): PaxRecords {
    let at = start;
    while (at < end) at = this.#record(at, end);
    const records = this.#records;
    records.xattrs = this.#xattrs === undefined ? NO_XATTRS : [...this.#xattrs.values()];
    const map = records.sparse?.map;
    if (map !== undefined && map.length % 2 !== 0) this.#bad('a sparse offset has no length');
    return records;
  }

  /** One "<length> <key>=<value>\n"; returns where the next one starts. */
  #record(start: number, end: number): number {
    const buffer = this.#buffer;
    let at = start;
    let length = 0;
    for (; at < end; at++) {
      const digit = (buffer[at] ?? 0) - 0x30;
      if (digit < 0 || digit > 9 || length > end) break;
      length = length * 10 + digit;
    }
    const next = start + length;
    if (at === start || buffer[at] !== SPACE || next > end || next <= at + 2) {
      this.#bad('a PAX record has a wrong length');
    }
    if (buffer[next - 1] !== NEWLINE) this.#bad('a PAX record does not end with a newline');
    const keyStart = at + 1;
    let equals = keyStart;
    while (equals < next && buffer[equals] !== EQUALS) {
      if (buffer[equals] === 0) this.#bad('a PAX key holds a NUL');
      equals++;
    }
    if (equals === next || equals === keyStart) this.#bad('a PAX record has no key');
    this.#apply(bytesFrom(buffer, keyStart, equals), equals + 1, next - 1);
    return next;
  }

  #apply(key: ByteString, start: number, end: number): void {
    // Version 0.0 of GNU's sparse format repeats these two, in turn, by design.
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      this.#segment(key === 'GNU.sparse.numbytes', this.#number(key, start, end));
      return;
    }
    if (this.#seen.has(key)) this.#bad(`PAX key ${JSON.stringify(key)} is given twice`);
    this.#seen.add(key);
    if (key.startsWith(SCHILY_XATTR)) {
      this.#xattr(key.slice(SCHILY_XATTR.length) as ByteString, this.#copy(start, end), true);
    } else if (key.startsWith(LIBARCHIVE_XATTR)) {
      this.#libarchiveXattr(key, start, end);
    } else if (end > start) {
      // An empty value deletes the record (POSIX): the header field then counts.
      this.#field(key, start, end);
    }
  }

  #field(key: ByteString, start: number, end: number): void {
    const records = this.#records;
    switch (key as string) {
      case 'path':
        records.path = this.#text(key, start, end);
        break;
      case 'GNU.sparse.name':
        this.#sparse().name = this.#text(key, start, end);
        break;
      case 'linkpath':
        records.linkPath = this.#text(key, start, end);
        break;
      case 'size':
        records.size = this.#number(key, start, end);
        break;
      case 'uid':
        records.uid = this.#number(key, start, end);
        break;
      case 'gid':
        records.gid = this.#number(key, start, end);
        break;
      case 'mtime':
        records.mtime = this.#time(key, start, end);
        break;
      case 'atime':
        records.atime = this.#time(key, start, end);
        break;
      case 'SCHILY.devmajor':
        records.devMajor = this.#number(key, start, end);
        break;
      case 'SCHILY.devminor':
        records.devMinor = this.#number(key, start, end);
        break;
      case 'GNU.sparse.major':
        this.#sparse().major = this.#number(key, start, end);
        break;
      case 'GNU.sparse.minor':
        this.#sparse().minor = this.#number(key, start, end);
        break;
      case 'GNU.sparse.size':
      case 'GNU.sparse.realsize':
        this.#sparse().realSize = this.#number(key, start, end);
        break;
      case 'GNU.sparse.numblocks':
        this.#sparse().segmentCount = this.#number(key, start, end);
        break;
      case 'GNU.sparse.map':
        this.#map(key, start, end);
        break;
      default:
        // Other keys (ctime, comment, uname, hdrcharset, vendor keys) do not describe the tree.
        break;
    }
  }

  #sparse(): PaxSparse {
    this.#records.sparse ??= new PaxSparse();
    return this.#records.sparse;
  }

  #segment(isLength: boolean, value: number): void {
    const sparse = this.#sparse();
    sparse.map ??= [];
    if ((sparse.map.length % 2 === 1) !== isLength) this.#bad('sparse offsets and lengths mix');
    this.#pushToMap(sparse.map, value);
  }

  #map(key: ByteString, start: number, end: number): void {
    const sparse = this.#sparse();
    if (sparse.map !== undefined) this.#bad('the sparse map is given twice');
    const map: number[] = [];
    let from = start;
    for (let i = start; i <= end; i++) {
      if (i < end && this.#buffer[i] !== 0x2c) continue;
      this.#pushToMap(map, this.#number(key, from, i));
      from = i + 1;
    }
    sparse.map = map;
  }

  #pushToMap(map: number[], value: number): void {
    if (map.length >= 2 * this.#limits.maxSparseSegments) {
      throw overLimit(
        this.#owner,
        `the sparse map has more than ${this.#limits.maxSparseSegments} segments`,
      );
    }
    map.push(value);
  }

  #text(key: ByteString, start: number, end: number): ByteString {
    const nul = this.#buffer.indexOf(0, start);
    if (nul >= 0 && nul < end) this.#bad(`PAX value of ${key} holds a NUL`);
    return bytesFrom(this.#buffer, start, end);
  }

  #number(key: ByteString, start: number, end: number): number {
    let value = 0;
    for (let i = start; i < end; i++) {
      const digit = (this.#buffer[i] ?? 0) - 0x30;
      if (digit < 0 || digit > 9) this.#bad(`PAX value of ${key} is not a whole number`);
      value = value * 10 + digit;
    }
    if (start === end) this.#bad(`PAX value of ${key} is empty`);
    if (value > Number.MAX_SAFE_INTEGER) {
      throw overLimit(this.#owner, `PAX value of ${key} is larger than 2^53-1`);
    }
    return value;
  }

  #time(key: ByteString, start: number, end: number): Timestamp {
    const time = end - start > 64 ? undefined : parsePaxTime(bytesFrom(this.#buffer, start, end));
    return time ?? this.#bad(`PAX value of ${key} is not a time`);
  }

  #copy(start: number, end: number): Buffer {
    if (end - start > this.#limits.maxXattrValueBytes) {
      throw overLimit(
        this.#owner,
        `an extended attribute holds more than ${this.#limits.maxXattrValueBytes} bytes`,
      );
    }
    // The caller reuses its chunk: the value must be our own.
    return Buffer.from(this.#buffer.subarray(start, end));
  }

  /** Name in percent encoding, value in base64 with or without its padding (libarchive). */
  #libarchiveXattr(key: ByteString, start: number, end: number): void {
    const name = percentDecode(key.slice(LIBARCHIVE_XATTR.length));
    const text = bytesFrom(this.#buffer, start, end).replace(/=+$/, '');
    if (name === undefined || !/^[A-Za-z0-9+/]*$/.test(text) || text.length % 4 === 1) {
      this.#bad('a LIBARCHIVE.xattr record is not properly encoded');
    }
    const value = Buffer.from(text, 'base64');
    if (value.length > this.#limits.maxXattrValueBytes) {
      throw overLimit(
        this.#owner,
        `an extended attribute holds more than ${this.#limits.maxXattrValueBytes} bytes`,
      );
    }
    this.#xattr(name, value, false);
  }

  /** bsdtar writes each attribute in both forms; the raw one is kept. */
  #xattr(name: ByteString, value: Buffer, preferred: boolean): void {
    if (name.length === 0 || name.includes('\0')) {
      this.#bad('an extended attribute has an unusable name');
    }
    if (name.length > XATTR_NAME_MAX) {
      throw overLimit(this.#owner, 'the name of an extended attribute is longer than 255 bytes');
    }
    this.#xattrs ??= new Map();
    const previous = this.#xattrs.get(name);
    if (previous !== undefined && !preferred) return;
    if (previous === undefined) this.#xattrBytes += name.length;
    this.#xattrBytes += value.length - (previous?.value.length ?? 0);
    if (this.#xattrBytes > this.#limits.maxXattrsPerEntryBytes) {
      throw overLimit(
        this.#owner,
        `its extended attributes hold more than ${this.#limits.maxXattrsPerEntryBytes} bytes`,
      );
    }
    this.#xattrs.set(name, { name, value });
  }

  #bad(fact: string): never {
    throw malformed(this.#owner, fact);
  }
}

function percentDecode(text: string): ByteString | undefined {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) return undefined;
  return text.replace(/%(..)/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  ) as ByteString;
}

/** "-1.5" is half a second before -1. Digits after the ninth are cut; seconds stay exact. */
function parsePaxTime(text: string): Timestamp | undefined {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text);
  if (match === null) return undefined;
  const nsec = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return timestamp(match[1] === '-', Number(match[2]), nsec);
}

/** Times beyond what a number holds exactly are clamped: no file system keeps them either. */
function timestamp(negative: boolean, whole: number, nsec: number): Timestamp {
  const bounded = Math.min(whole, Number.MAX_SAFE_INTEGER - 1);
  if (!negative) return { sec: bounded, nsec };
  return nsec === 0 ? { sec: 0 - bounded, nsec: 0 } : { sec: -bounded - 1, nsec: 1e9 - nsec };
}
