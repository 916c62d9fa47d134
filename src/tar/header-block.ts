import { type ByteString, bytesFrom } from '../core/bytes.ts';

/**
 * Field access for one 512-byte header block, in place: `at` is where the block starts in
 * `block`. Offsets are those of POSIX pax (ustar), GNU tar ("Basic Tar Format") and star.
 */
export const BLOCK_BYTES = 512;

export type HeaderFormat = 'v7' | 'ustar' | 'star' | 'gnu';

const SPACE = 0x20;
const ZERO = 0x30;

export function isZeroBlock(block: Buffer, at: number): boolean {
  for (let i = at; i < at + BLOCK_BYTES; i++) if (block[i] !== 0) return false;
  return true;
}

/** The sum of all bytes with the checksum field as spaces; old tars summed signed bytes. */
export function checksumMatches(block: Buffer, at: number): boolean {
  let sum = 0;
  let high = 0;
  const end = at + BLOCK_BYTES;
  for (let i = at; i < end; i++) {
    const byte = block[i] ?? 0;
    sum += byte;
    high += byte >>> 7;
  }
  for (let i = at + 148; i < at + 156; i++) {
    const byte = block[i] ?? 0;
    sum += SPACE - byte;
    high -= byte >>> 7;
  }
  const stored = parseNumeric(block, at + 148, 8);
  return stored === sum || stored === sum - 256 * high;
}

export function headerFormat(block: Buffer, at: number): HeaderFormat {
  if (block.readUInt32BE(at + 257) !== 0x75737461 /* "usta" */) return 'v7';
  const rest = block.readUInt32BE(at + 261);
  if (rest >>> 16 === 0x7200 /* "r\0", then any version */) {
    return block.readUInt32BE(at + 508) === 0x74617200 /* "tar\0" */ ? 'star' : 'ustar';
  }
  return rest === 0x72202000 /* "r  \0" */ ? 'gnu' : 'v7';
}

/** A text field: ends at the first NUL or with the field. */
export function textField(block: Buffer, start: number, length: number): ByteString {
  const limit = start + length;
  let end = start;
  while (end < limit && block[end] !== 0) end++;
  return bytesFrom(block, start, end);
}

/**
 * An octal field (blanks and NULs around it, empty means 0) or a base-256 field (top bit set).
 * NaN when it is neither. May be negative or beyond 2^53 when base-256: callers check.
 */
export function parseNumeric(block: Buffer, start: number, length: number): number {
  const end = start + length;
  if ((block[start] ?? 0) & 0x80) return parseBase256(block, start, end);
  let i = start;
  while (i < end && (block[i] === SPACE || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = (block[i] ?? 0) - ZERO;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  // A NUL ends the field whatever follows, as in Go's reader; a blank must be followed by blanks.
  for (; i < end && block[i] !== 0; i++) if (block[i] !== SPACE) return Number.NaN;
  return value;
}

function parseBase256(block: Buffer, start: number, end: number): number {
  const negative = ((block[start] ?? 0) & 0x40) !== 0;
  const invert = negative ? 0xff : 0;
  let value = ((block[start] ?? 0) ^ invert) & 0x7f;
  for (let i = start + 1; i < end; i++) value = value * 256 + ((block[i] ?? 0) ^ invert);
  return negative ? -value - 1 : value;
}

/** The member's name from the header alone: prefix and name, where the format has a prefix. */
export function headerName(block: Buffer, at: number, format: HeaderFormat): ByteString {
  const name = textField(block, at, 100);
  const prefix = headerPrefix(block, at, format);
  // Latin1 stays latin1 when joined.
  return prefix.length === 0 ? name : (`${prefix}/${name}` as ByteString);
}

const NO_PREFIX = '' as ByteString;

function headerPrefix(block: Buffer, at: number, format: HeaderFormat): ByteString {
  if (format === 'v7' || block[at + 345] === 0) return NO_PREFIX;
  if (format === 'ustar') return textField(block, at + 345, 155);
  if (format === 'star') return textField(block, at + 345, 131);
  // GNU keeps atime and ctime there. Go before 1.8 wrote a prefix into such headers all the same;
  // layers of that age exist, and Go's reader since tells the two apart like this.
  if (!Number.isNaN(parseNumeric(block, at + 345, 12) + parseNumeric(block, at + 357, 12))) {
    return NO_PREFIX;
  }
  const prefix = textField(block, at + 345, 155);
  return /^[\x01-\x7f]*$/.test(prefix) ? prefix : NO_PREFIX;
}

/** Access time in whole seconds, from the two formats that have a field for it. */
export function headerAtime(block: Buffer, at: number, format: HeaderFormat): number | undefined {
  const start = format === 'gnu' ? at + 345 : format === 'star' ? at + 476 : -1;
  if (start < 0 || block[start] === 0) return undefined;
  const seconds = parseNumeric(block, start, 12);
  return Number.isNaN(seconds) ? undefined : seconds;
}
