import { isUtf8 } from 'node:buffer';
import { type ByteString, bytesFrom, escapeBytes, toBuffer } from '../core/bytes.ts';
import { BuilderdError } from '../core/errors.ts';
import type { EntryKind, TarEntry, Timestamp, Xattr } from './entry.ts';
import { BLOCK_BYTES } from './header-block.ts';

/** A PAX record, key and value in raw bytes. */
type PaxRecord = readonly [key: string, value: ByteString];

const TYPE_FLAGS = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
} as const satisfies Record<EntryKind, string>;

const MAX_OCTAL_7 = 0o7777777;
const MAX_OCTAL_11 = 0o77777777777;
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;

/**
 * The header of a member: one ustar block when that holds everything, else a PAX extended header
 * with just the records that are needed, sorted, and then the ustar block. Equal entries give
 * equal bytes. The content must follow, then `padding(entry.size)`.
 * Throws `artifact.unrepresentable` for a name, target or attribute that tar cannot hold.
 */
export function encodeHeader(entry: TarEntry): Buffer {
  checkRepresentable(entry);
  const name = splitName(entry.name);
  const records = paxRecords(entry, name !== undefined);
  const member = ustarBlock({
    name: name?.name ?? standIn(entry.name, NAME_BYTES),
    prefix: name?.prefix ?? '',
    linkName: standIn(entry.linkName, NAME_BYTES),
    type: TYPE_FLAGS[entry.kind],
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    size: entry.size,
    mtimeSec: entry.mtime.sec,
    devMajor: entry.devMajor,
    devMinor: entry.devMinor,
  });
  if (records.length === 0) return member;
  const body = Buffer.from(records.map(encodeRecord).join(''), 'latin1');
  const header = ustarBlock({
    name: `PaxHeaders.0/${standIn(baseName(entry.name), 80)}`,
    prefix: '',
    linkName: '',
    type: 'x',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: body.length,
    mtimeSec: 0,
    devMajor: 0,
    devMinor: 0,
  });
  return Buffer.concat([header, body, padding(body.length), member]);
}

const ZEROS = Buffer.alloc(2 * BLOCK_BYTES);

/** The zeros between `size` bytes of content and the next header. Do not write to it. */
export function padding(size: number): Buffer {
  return ZEROS.subarray(0, (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}

/** The two zero blocks that end an archive. Do not write to it. */
export function endOfArchive(): Buffer {
  return ZEROS;
}

function checkRepresentable(entry: TarEntry): void {
  const refuse = (fact: string): never => {
    throw new BuilderdError(
      'artifact.unrepresentable',
      `Cannot write "${escapeBytes(entry.name)}" to a tar: ${fact}`,
    );
  };
  if (entry.name.length === 0) refuse('it has no name');
  if (entry.name.includes('\0') || entry.linkName.includes('\0')) refuse('a name holds a NUL');
  if (entry.kind !== 'file' && entry.size !== 0) refuse(`a ${entry.kind} cannot have content`);
  for (const { name } of entry.xattrs) {
    if (name.length === 0 || name.includes('\0')) refuse('an attribute has an unusable name');
  }
  for (const value of [entry.size, entry.uid, entry.gid, entry.devMajor, entry.devMinor]) {
    if (!Number.isSafeInteger(value) || value < 0) refuse(`${value} is no valid size or id`);
  }
}

function paxRecords(entry: TarEntry, nameFits: boolean): PaxRecord[] {
  const records: PaxRecord[] = [];
  const add = (key: string, value: string): void => {
    records.push([key, value as ByteString]);
  };
  const linkFits = entry.linkName.length <= NAME_BYTES && isAscii(entry.linkName);
  if (!nameFits) add('path', entry.name);
  if (!linkFits) add('linkpath', entry.linkName);
  if ((!nameFits && !isUtf8Bytes(entry.name)) || (!linkFits && !isUtf8Bytes(entry.linkName))) {
    // Without it readers may refuse or convert what is not UTF-8 (POSIX, pax extended headers).
    add('hdrcharset', 'BINARY');
  }
  if (entry.size > MAX_OCTAL_11) add('size', String(entry.size));
  if (entry.uid > MAX_OCTAL_7) add('uid', String(entry.uid));
  if (entry.gid > MAX_OCTAL_7) add('gid', String(entry.gid));
  if (entry.devMajor > MAX_OCTAL_7) add('SCHILY.devmajor', String(entry.devMajor));
  if (entry.devMinor > MAX_OCTAL_7) add('SCHILY.devminor', String(entry.devMinor));
  const { sec, nsec } = entry.mtime;
  if (nsec !== 0 || sec < 0 || sec > MAX_OCTAL_11) add('mtime', formatPaxTime(entry.mtime));
  if (entry.atime !== undefined) add('atime', formatPaxTime(entry.atime));
  for (const xattr of entry.xattrs) records.push(xattrRecord(xattr));
  records.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  for (let i = 1; i < records.length; i++) {
    if (records[i]?.[0] === records[i - 1]?.[0]) {
      throw new BuilderdError(
        'internal',
        `Cannot write "${escapeBytes(entry.name)}" to a tar: it has an attribute twice`,
      );
    }
  }
  return records;
}

function xattrRecord(xattr: Xattr): PaxRecord {
  // A PAX key ends at its first "=". libarchive's form is the one that can hold such a name.
  if (!xattr.name.includes('=')) return [`SCHILY.xattr.${xattr.name}`, bytesFrom(xattr.value)];
  const name = xattr.name.replace(
    /[^A-Za-z0-9._-]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
  const value = xattr.value.toString('base64').replace(/=+$/, '');
  return [`LIBARCHIVE.xattr.${name}`, value as ByteString];
}

/** "<length> <key>=<value>\n", where the length counts its own digits. */
function encodeRecord([key, value]: PaxRecord): string {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

function formatPaxTime({ sec, nsec }: Timestamp): string {
  if (nsec === 0) return String(sec);
  const negative = sec < 0;
  const whole = negative ? -(sec + 1) : sec;
  const fraction = String(negative ? 1e9 - nsec : nsec).padStart(9, '0');
  return `${negative ? '-' : ''}${whole}.${fraction.replace(/0+$/, '')}`;
}

/** The ustar name and prefix fields for a path, when it is plain ASCII and short enough. */
function splitName(path: ByteString): { name: string; prefix: string } | undefined {
  if (!isAscii(path)) return undefined;
  if (path.length <= NAME_BYTES) return { name: path, prefix: '' };
  // The last slash that leaves both a prefix that fits and a name that is not empty.
  const slash = path.lastIndexOf('/', Math.min(PREFIX_BYTES, path.length - 2));
  if (slash <= 0 || path.length - slash - 1 > NAME_BYTES) return undefined;
  return { name: path.slice(slash + 1), prefix: path.slice(0, slash) };
}

/** What a ustar field shows when the real text is in a PAX record. Itself when it fits. */
function standIn(text: string, maxBytes: number): string {
  return text.replace(/[^\x01-\x7f]/g, '_').slice(0, maxBytes);
}

function baseName(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  return trimmed.slice(trimmed.lastIndexOf('/') + 1);
}

function isAscii(text: string): boolean {
  return /^[\x01-\x7f]*$/.test(text);
}

function isUtf8Bytes(bytes: ByteString): boolean {
  return isUtf8(toBuffer(bytes));
}

interface UstarFields {
  readonly name: string;
  readonly prefix: string;
  readonly linkName: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly devMajor: number;
  readonly devMinor: number;
}

function ustarBlock(fields: UstarFields): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(fields.name, 0, NAME_BYTES, 'latin1');
  octal(block, 100, 7, fields.mode);
  octal(block, 108, 7, fields.uid);
  octal(block, 116, 7, fields.gid);
  octal(block, 124, 11, fields.size);
  octal(block, 136, 11, fields.mtimeSec);
  block.write(fields.type, 156, 1, 'latin1');
  block.write(fields.linkName, 157, NAME_BYTES, 'latin1');
  block.write('ustar\x0000', 257, 8, 'latin1');
  octal(block, 329, 7, fields.devMajor);
  octal(block, 337, 7, fields.devMinor);
  block.write(fields.prefix, 345, PREFIX_BYTES, 'latin1');
  let sum = 8 * 0x20;
  for (const byte of block) sum += byte;
  octal(block, 148, 6, sum);
  block[155] = 0x20;
  return block;
}

/** `digits` octal digits and the NUL that the zeroed block already has; 0 when it does not fit:
 * a PAX record then holds the number. */
function octal(block: Buffer, at: number, digits: number, value: number): void {
  const fits = value >= 0 && value < 8 ** digits;
  block.write((fits ? value : 0).toString(8).padStart(digits, '0'), at, digits, 'latin1');
}
