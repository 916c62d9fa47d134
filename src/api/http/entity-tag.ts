import { BuilderdError } from '../../core/errors.ts';

export function strongTag(opaque: string | number): string {
  return `"${opaque}"`;
}

/** If-None-Match, RFC 9110 section 13.1.2: weak comparison, a list or `*`. */
export function matchesTag(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.split(',').some((each) => each.trim().replace(/^W\//, '') === tag);
}

/** If-Range: only the very same strong tag; a date or a weak tag proves nothing. */
export function holdsIfRange(header: string | undefined, tag: string): boolean {
  return header === undefined || header.trim() === tag;
}

/** If-Match of a versioned resource: the version it names, undefined for none or `*`. */
export function parseIfMatch(header: string | undefined): number | undefined {
  if (header === undefined || header.trim() === '*') return undefined;
  const digits = /^"(\d{1,15})"$/.exec(header.trim())?.[1];
  if (digits === undefined) {
    throw new BuilderdError(
      'api.invalid',
      'Cannot use If-Match: want the ETag of an earlier answer',
    );
  }
  return Number(digits);
}
