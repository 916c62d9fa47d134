import type { ByteString } from '../../core/bytes.ts';
import type { MatchBudget } from './match-budget.ts';

/** One part of a pattern, between slashes: matches exactly one name. */
export type NamePattern =
  | { readonly kind: 'literal'; readonly name: ByteString }
  | { readonly kind: 'glob'; readonly tokens: readonly Token[] };

/** A byte, a set of bytes, any byte, or any number of bytes. */
export type Token = number | ByteSet | typeof ANY | typeof STAR;
/** 256 of them, 1 for those that match. */
export type ByteSet = Uint8Array;
export const ANY = 'any';
export const STAR = 'star';

/**
 * Whether the whole name matches. Only the last star is ever tried again, so the cost is at most
 * bytes of the name times tokens: there is no third factor.
 */
export function matchesName(pattern: NamePattern, name: ByteString, budget: MatchBudget): boolean {
  if (pattern.kind === 'literal') return name === pattern.name;
  const { tokens } = pattern;
  let token = 0;
  let at = 0;
  /** Where the last star stands, and the first byte that it has not yet swallowed. */
  let star = -1;
  let resume = 0;
  let steps = 0;
  while (at < name.length) {
    steps++;
    const wanted = tokens[token];
    if (wanted === STAR) {
      star = token++;
      resume = at;
      if (token === tokens.length) break;
    } else if (wanted !== undefined && accepts(wanted, name.charCodeAt(at))) {
      token++;
      at++;
    } else if (star < 0) {
      budget.spend(steps);
      return false;
    } else {
      token = star + 1;
      at = ++resume;
    }
  }
  budget.spend(steps);
  while (tokens[token] === STAR) token++;
  return token === tokens.length;
}

function accepts(token: Exclude<Token, typeof STAR>, byte: number): boolean {
  if (typeof token === 'number') return token === byte;
  return token === ANY || token[byte] === 1;
}
