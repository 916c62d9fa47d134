import { bytesOf, escapeBytes } from '../core/bytes.ts';
import { BuilderdError } from '../core/errors.ts';

/** An image that a build starts from, with the transport that brings it. */
export type ImageSource =
  | { readonly kind: 'registry'; readonly reference: string }
  | { readonly kind: 'oci-layout'; readonly path: string; readonly tag?: string }
  | { readonly kind: 'oci-archive'; readonly path: string; readonly tag?: string }
  | { readonly kind: 'docker-archive'; readonly path: string; readonly tag?: string };

/** Host, name of 255 bytes, tag of 128 and a sha512 digest: nothing valid is longer. */
const MAX_REFERENCE_CHARS = 1024;
const MAX_PATH_BYTES = 4095;

const LOCAL_TRANSPORTS = new Map<string, 'oci-layout' | 'oci-archive' | 'docker-archive'>([
  ['oci:', 'oci-layout'],
  ['oci-archive:', 'oci-archive'],
  ['docker-archive:', 'docker-archive'],
]);

/** Sources of the design that this version cannot build yet, and what to say about them. */
const LATER: readonly (readonly [RegExp, string])[] = [
  [/^git\+/i, 'Git sources are not built by this version'],
  [/^https?:\/\//i, 'archives fetched over HTTP are not built by this version'],
  [/^dir:/i, 'directory sources are not built by this version'],
  [/^archive:/i, 'archive sources are not built by this version'],
];

/**
 * Reads the SOURCE argument: `docker://REF` or a bare `REF`, `oci:DIR[:TAG]`,
 * `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME:TAG]`. A path ends at its first colon.
 * The registry client checks the reference's grammar; here only text that could never be one, or
 * that could be taken for an option or a credential, is refused.
 * Throws `usage.invalid` for bad text and `not_supported` for sources of later versions.
 */
export function parseSource(text: string): ImageSource {
  // oxlint-disable-next-line no-control-regex -- control characters are exactly what is refused
  if (/[\u0000-\u001f\u007f]/.test(text)) throw refused(text, 'it holds control characters');
  for (const [pattern, fact] of LATER) {
    if (pattern.test(text)) {
      throw new BuilderdError('not_supported', `Cannot build ${shown(text)}: ${fact}`);
    }
  }
  for (const [prefix, kind] of LOCAL_TRANSPORTS) {
    if (text.startsWith(prefix)) return { kind, ...parsePath(text, text.slice(prefix.length)) };
  }
  const reference = text.startsWith('docker://') ? text.slice('docker://'.length) : text;
  return { kind: 'registry', reference: checkReference(text, reference) };
}

function parsePath(text: string, rest: string): { path: string; tag?: string } {
  const colon = rest.indexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (path === '') throw refused(text, 'no path stands after the transport');
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw refused(text, `its path is longer than ${MAX_PATH_BYTES} bytes`);
  }
  if (tag === undefined) return { path };
  if (tag === '') throw refused(text, 'its tag is empty');
  return { path, tag: checkReference(text, tag) };
}

function checkReference(text: string, reference: string): string {
  if (reference === '') throw refused(text, 'it names no image');
  if (reference.length > MAX_REFERENCE_CHARS) {
    throw refused(text, `a reference has at most ${MAX_REFERENCE_CHARS} characters`);
  }
  if (reference.includes('://')) throw refused(text, 'its transport is unknown');
  if (/^[./~]/.test(reference)) {
    throw refused(
      text,
      'it looks like a path; write oci:DIR, oci-archive:FILE or docker-archive:FILE',
    );
  }
  if (!/^[A-Za-z0-9[]/.test(reference)) {
    throw refused(text, 'a reference starts with a letter or a digit');
  }
  if (!/^[A-Za-z0-9._:/@+\-[\]]*$/.test(reference)) {
    throw refused(text, 'a reference holds only ASCII letters, digits and . _ - : / @');
  }
  const beforeSlash = reference.slice(0, Math.max(reference.indexOf('/'), 0));
  if (beforeSlash.includes('@')) throw refused('', 'a reference carries no user name or password');
  return reference;
}

/** Text with credentials in it is not repeated: `shown('')` names it without showing it. */
function refused(text: string, fact: string): BuilderdError {
  return new BuilderdError('usage.invalid', `Cannot use ${shown(text)} as a source: ${fact}`);
}

function shown(text: string): string {
  if (text === '') return 'this text';
  // A URL may hold `user:password@`; what stands before the last @ of its host part is hidden.
  const safe = text.replace(/^([a-z+]*:\/\/)[^/]*@/i, '$1***@');
  return `"${escapeBytes(bytesOf(safe), 120)}"`;
}
