/**
 * A byte string: every char code is one byte (latin1). Names, link targets and xattr names of an
 * image are kept this way: it is a bijection with the bytes, works as a Map key, and costs one
 * byte a character in V8. Never print one directly; use `escapeBytes`.
 */
export type ByteString = string & { readonly __brand: 'ByteString' };

export function bytesFrom(buffer: Buffer, start = 0, end = buffer.length): ByteString {
  return buffer.toString('latin1', start, end) as ByteString;
}

/** The bytes of a JS string in UTF-8, as a ByteString. */
export function bytesOf(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1') as ByteString;
}

export function toBuffer(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1');
}

/** For messages and JSON: valid printable UTF-8 stays, everything else becomes `\xNN`. */
export function escapeBytes(bytes: ByteString, maxChars = 300): string {
  const buffer = toBuffer(bytes);
  const text = buffer.toString('utf8');
  const faithful = Buffer.from(text, 'utf8').equals(buffer);
  const escaped = faithful
    ? text.replace(/[\\\p{C}]/gu, (char) => escapeChar(char))
    : buffer
        .toString('latin1')
        .replace(/[^\x20-\x5b\x5d-\x7e]/g, (char) => hex(char.charCodeAt(0)));
  return escaped.length > maxChars ? `${escaped.slice(0, maxChars)}…` : escaped;
}

function escapeChar(char: string): string {
  return char === '\\' ? '\\\\' : Array.from(Buffer.from(char, 'utf8'), hex).join('');
}

function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`;
}
