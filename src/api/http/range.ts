/** Bytes `start` to `end`, both inclusive. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export type RangeChoice =
  | { readonly kind: 'whole' }
  | { readonly kind: 'span'; readonly span: Span }
  | { readonly kind: 'unsatisfiable' };

const WHOLE: RangeChoice = { kind: 'whole' };
const UNSATISFIABLE: RangeChoice = { kind: 'unsatisfiable' };

/**
 * RFC 9110 section 14: one range of bytes. Several at once, and other units, are answered with the
 * whole, which the RFC allows and which costs an attacker nothing to ask for either way. A byte
 * range that is malformed or lies outside is unsatisfiable.
 */
export function chooseRange(header: string | undefined, sizeBytes: number): RangeChoice {
  if (header === undefined) return WHOLE;
  const bytes = /^bytes=(.*)$/i.exec(header.trim())?.[1];
  if (bytes === undefined || bytes.includes(',')) return WHOLE;
  const match = /^\s*(\d*)-(\d*)\s*$/.exec(bytes);
  if (match === null) return UNSATISFIABLE;
  const [, first = '', last = ''] = match;
  if (first === '') return suffixOf(last, sizeBytes);
  // Digits beyond 2^53 lose precision, but stay beyond every size.
  const start = Number(first);
  const end = last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  if (last !== '' && Number(last) < start) return UNSATISFIABLE;
  return start < sizeBytes ? { kind: 'span', span: { start, end } } : UNSATISFIABLE;
}

function suffixOf(digits: string, sizeBytes: number): RangeChoice {
  const length = digits === '' ? 0 : Number(digits);
  if (length === 0 || sizeBytes === 0) return UNSATISFIABLE;
  return { kind: 'span', span: { start: Math.max(0, sizeBytes - length), end: sizeBytes - 1 } };
}
