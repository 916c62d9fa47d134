import { type ByteString, bytesOf } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import { ANY, type ByteSet, type NamePattern, STAR, type Token } from './name-pattern.ts';

/** Any number of directories, also none; at the end, anything below. */
export const ANY_DEPTH = 'any depth';

export interface PathPattern {
  /** As it was written. */
  readonly text: string;
  readonly parts: readonly (NamePattern | typeof ANY_DEPTH)[];
}

export const MAX_PATTERN_BYTES = 1024;
const MAX_SHOWN = 80;

/**
 * Reads a pattern of path names, from the root of the image: `usr/share/doc`, `**` + `/*.pyc`,
 * `var/log/[a-f]?.log`. A backslash takes a byte as it is. Throws `usage.invalid`.
 */
export function parsePathPattern(text: string): PathPattern {
  const bytes = bytesOf(text);
  const refuse = (fact: string) => refused(text, fact);
  if (!text.isWellFormed()) throw refuse('it holds half a character');
  if (bytes === '') throw refuse('it is empty');
  if (bytes.length > MAX_PATTERN_BYTES)
    throw refuse(`it has ${bytes.length} bytes, at most ${MAX_PATTERN_BYTES} are possible`);
  if (/[\0-\x1f\x7f]/.test(bytes)) throw refuse('it holds a control character');
  if (bytes.startsWith('/'))
    throw refuse('it starts with a slash; paths count from the root of the image, leave it out');
  const parts: PathPattern['parts'][number][] = [];
  for (const part of bytes.split('/')) {
    if (part === '') throw refuse('it has an empty part, or a slash at its end');
    if (part !== '**') parts.push(parsePart(part as ByteString, refuse));
    // Twice in a row says no more than once.
    else if (parts.at(-1) !== ANY_DEPTH) parts.push(ANY_DEPTH);
  }
  return { text, parts };
}

function parsePart(part: ByteString, refuse: (fact: string) => BuilderdError): NamePattern {
  const tokens: Token[] = [];
  for (let at = 0; at < part.length; ) {
    const char = part.charAt(at++);
    if (char === '*') {
      if (tokens.at(-1) === STAR) throw refuse('** must stand alone between slashes');
      tokens.push(STAR);
    } else if (char === '?') tokens.push(ANY);
    else if (char === '[') {
      const set = parseSet(part, at, refuse);
      tokens.push(set.bytes);
      at = set.end;
    } else if (char === '\\') {
      if (at === part.length) throw refuse('nothing follows its last backslash');
      tokens.push(part.charCodeAt(at++));
    } else tokens.push(char.charCodeAt(0));
  }
  if (!tokens.every((token) => typeof token === 'number')) return { kind: 'glob', tokens };
  const name = String.fromCharCode(...tokens) as ByteString;
  if (name === '.' || name === '..') throw refuse(`a part "${name}" names nothing in an image`);
  return { kind: 'literal', name };
}

/** `[abc]`, `[a-z]`, `[!a]`, `[^a]`, `[]a]`; a backslash works here too. */
function parseSet(
  part: ByteString,
  start: number,
  refuse: (fact: string) => BuilderdError,
): { readonly bytes: ByteSet; readonly end: number } {
  let at = start;
  const isNegated = part[at] === '!' || part[at] === '^';
  if (isNegated) at++;
  const bytes = new Uint8Array(256).fill(isNegated ? 1 : 0);
  const next = (): number => {
    if (part[at] === '\\') at++;
    const byte = part.charCodeAt(at++);
    if (Number.isNaN(byte)) throw refuse('a [ has no ]');
    // One byte each: a set of longer characters would match halves of them.
    if (byte > 0x7e) throw refuse('a set in [] can hold ASCII only');
    return byte;
  };
  do {
    const first = next();
    let last = first;
    if (part[at] === '-' && part[at + 1] !== ']' && at + 1 < part.length) {
      at++;
      last = next();
      if (last < first) throw refuse('a range in [] runs backwards');
    }
    bytes.fill(isNegated ? 0 : 1, first, last + 1);
  } while (part[at] !== ']');
  return { bytes, end: at + 1 };
}

function refused(text: string, fact: string): BuilderdError {
  const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  return new BuilderdError(
    'usage.invalid',
    `Cannot use the pattern ${JSON.stringify(shown)}: ${fact}`,
  );
}
