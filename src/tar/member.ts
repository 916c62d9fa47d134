import type { ByteString } from '../core/bytes.ts';
import type { EntryKind, TarEntry, Timestamp, Xattr } from './entry.ts';
import { malformed, overLimit } from './faults.ts';
import {
  type HeaderFormat,
  headerAtime,
  headerFormat,
  headerName,
  parseNumeric,
  textField,
} from './header-block.ts';
import type { TarLimits } from './limits.ts';
import type { PaxRecords } from './pax.ts';

/** What extended headers in front of a member say about it. */
export interface Extensions {
  readonly pax: PaxRecords | undefined;
  readonly longName: ByteString | undefined;
  readonly longLink: ByteString | undefined;
}

export interface Member {
  readonly entry: TarEntry;
  /** Bytes of content in the archive; differs from entry.size for sparse files only. */
  readonly storedBytes: number;
}

const NONE = '' as ByteString;
const NO_XATTRS: readonly Xattr[] = [];
const MAX_ID = 2 ** 32 - 2;
/** Linux keeps 12 bits of a major and 20 bits of a minor device number. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xfffff;

/** The member that the header block at `at` describes, with its extensions applied. */
export function readMember(
  block: Buffer,
  at: number,
  type: string,
  extensions: Extensions,
  limits: TarLimits,
): Member {
  const { pax, longName, longLink } = extensions;
  const format = headerFormat(block, at);
  const paxName = pax?.sparse?.name ?? pax?.path;
  const name = paxName ?? longName ?? headerName(block, at, format);
  if (longName !== undefined && paxName !== undefined) {
    throw malformed(name, 'its name is given both by PAX and by a GNU long name');
  }
  if (longLink !== undefined && pax?.linkPath !== undefined) {
    throw malformed(name, 'its link target is given both by PAX and by a GNU long name');
  }
  const kind = memberKind(type, name, format);
  const isLink = kind === 'symlink' || kind === 'hardlink';
  const isDevice = kind === 'char' || kind === 'block';
  const linkName = isLink ? (pax?.linkPath ?? longLink ?? textField(block, at + 157, 100)) : NONE;
  checkPath(name, name, limits);
  if (kind === 'hardlink') checkPath(name, linkName, limits);
  if (kind === 'symlink') checkLength(name, linkName, limits);

  const storedBytes = pax?.size ?? readSize(block, at + 124, name);
  if (kind !== 'file' && storedBytes !== 0) {
    throw malformed(name, `a ${kind} entry declares ${storedBytes} bytes of content`);
  }
  const atime = pax?.atime ?? readAtime(block, at, format, name);
  const entry: TarEntry = {
    kind,
    name,
    linkName,
    mode: readMode(block, at + 100, name),
    uid: checkId(pax?.uid ?? parseNumeric(block, at + 108, 8), name, 'user'),
    gid: checkId(pax?.gid ?? parseNumeric(block, at + 116, 8), name, 'group'),
    size: logicalSize(block, at, type, kind, pax, storedBytes, name),
    mtime: pax?.mtime ?? readSeconds(block, at + 136, name),
    ...(atime === undefined ? undefined : { atime }),
    xattrs: pax?.xattrs ?? NO_XATTRS,
    devMajor: isDevice ? checkDevice(pax?.devMajor, block, at + 329, name, MAX_MAJOR) : 0,
    devMinor: isDevice ? checkDevice(pax?.devMinor, block, at + 337, name, MAX_MINOR) : 0,
  };
  return { entry, storedBytes };
}

function memberKind(type: string, name: ByteString, format: HeaderFormat): EntryKind {
  switch (type) {
    case '0':
    case '7':
      return 'file';
    case '\0':
      // Tars from before ustar have no type for directories; as in Go's reader, only this flag.
      return name.endsWith('/') ? 'dir' : 'file';
    case '1':
      return 'hardlink';
    case '2':
      return 'symlink';
    case '3':
      return 'char';
    case '4':
      return 'block';
    case '5':
      return 'dir';
    case '6':
      return 'fifo';
    case 'S':
      if (format === 'gnu') return 'file';
      break;
    default:
      break;
  }
  throw malformed(name, `its type ${JSON.stringify(type)} is not known`);
}

function checkPath(owner: ByteString, path: ByteString, limits: TarLimits): void {
  checkLength(owner, path, limits);
  // Short paths cannot break either of the two limits below.
  if (path.length <= limits.maxComponentBytes && path.length < 2 * limits.maxDepth) return;
  let depth = 0;
  for (const component of path.split('/')) {
    if (component.length > limits.maxComponentBytes) {
      throw overLimit(owner, `a part of its path exceeds ${limits.maxComponentBytes} bytes`);
    }
    if (component !== '' && component !== '.') depth++;
  }
  if (depth > limits.maxDepth) {
    throw overLimit(owner, `its path has more than ${limits.maxDepth} parts`);
  }
}

function checkLength(owner: ByteString, path: ByteString, limits: TarLimits): void {
  if (path.length === 0) throw malformed(owner, 'its name or link target is empty');
  if (path.length > limits.maxPathBytes) {
    throw overLimit(owner, `its name or link target exceeds ${limits.maxPathBytes} bytes`);
  }
}

/** A size field, whole and from 0 to 2^53-1. */
export function readSize(block: Buffer, at: number, name: ByteString): number {
  const size = parseNumeric(block, at, 12);
  // Also true for NaN.
  if (!(size >= 0)) throw malformed(name, 'its size is negative or not a number');
  if (size > Number.MAX_SAFE_INTEGER) throw overLimit(name, 'its size exceeds 2^53-1 bytes');
  return size;
}

function logicalSize(
  block: Buffer,
  at: number,
  type: string,
  kind: EntryKind,
  pax: PaxRecords | undefined,
  storedBytes: number,
  name: ByteString,
): number {
  const sparse = pax?.sparse;
  if (type === 'S' && sparse === undefined) return readSize(block, at + 483, name);
  if (sparse === undefined) return storedBytes;
  if (kind !== 'file' || type === 'S' || sparse.realSize === undefined) {
    throw malformed(name, 'its sparse records do not fit together');
  }
  return sparse.realSize;
}

function readMode(block: Buffer, at: number, name: ByteString): number {
  const mode = parseNumeric(block, at, 8);
  if (!(mode >= 0)) throw malformed(name, 'its mode is negative or not a number');
  // Some writers put the file type of stat(2) above the permission bits.
  return mode % 0o10000;
}

function checkId(id: number, name: ByteString, whose: string): number {
  if (!(id >= 0)) throw malformed(name, `its ${whose} id is negative or not a number`);
  if (id > MAX_ID) throw overLimit(name, `its ${whose} id ${id} exceeds 2^32-2`);
  return id;
}

function checkDevice(
  fromPax: number | undefined,
  block: Buffer,
  at: number,
  name: ByteString,
  max: number,
): number {
  const value = fromPax ?? parseNumeric(block, at, 8);
  if (!(value >= 0)) throw malformed(name, 'its device number is negative or not a number');
  if (value > max) throw overLimit(name, `its device number ${value} exceeds ${max}`);
  return value;
}

function readSeconds(block: Buffer, at: number, name: ByteString): Timestamp {
  const sec = parseNumeric(block, at, 12);
  if (Number.isNaN(sec)) throw malformed(name, 'its modification time is not a number');
  return { sec: clampSeconds(sec), nsec: 0 };
}

function readAtime(
  block: Buffer,
  at: number,
  format: HeaderFormat,
  name: ByteString,
): Timestamp | undefined {
  const sec = headerAtime(block, at, format);
  if (sec === undefined) return undefined;
  if (Number.isNaN(sec)) throw malformed(name, 'its access time is not a number');
  return { sec: clampSeconds(sec), nsec: 0 };
}

/** No file system keeps a time near these bounds; beyond them a number is not exact. */
function clampSeconds(sec: number): number {
  return Math.max(-Number.MAX_SAFE_INTEGER, Math.min(sec, Number.MAX_SAFE_INTEGER));
}
