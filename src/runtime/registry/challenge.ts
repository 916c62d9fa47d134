export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Lower-case names. */
  readonly params: ReadonlyMap<string, string>;
}

const MAX_HEADER = 8192;
const MAX_CHALLENGES = 8;
const TOKEN = /[A-Za-z0-9!#$%&'*+.^_`|~-]+/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/y;
const SPACE = /[ \t]*/y;

/**
 * Parses WWW-Authenticate (RFC 9110, 11.6.1), several challenges in one value included. Reading
 * stops at the first thing that is not understood; what came before is answered.
 */
export function parseChallenges(header: string): readonly Challenge[] {
  if (header.length > MAX_HEADER) return [];
  const cursor = new Cursor(header);
  const challenges: { scheme: string; params: Map<string, string> }[] = [];
  while (challenges.length <= MAX_CHALLENGES) {
    cursor.skipCommas();
    const name = cursor.take(TOKEN);
    if (name === undefined) break;
    const isParam = cursor.peekEquals();
    const current = challenges.at(-1);
    if (isParam) {
      const value = cursor.takeParamValue();
      if (current === undefined || value === undefined) break;
      // A repeated parameter keeps its first value.
      if (!current.params.has(name.toLowerCase())) current.params.set(name.toLowerCase(), value);
      continue;
    }
    challenges.push({ scheme: name.toLowerCase(), params: new Map() });
    cursor.skipToken68();
  }
  return challenges.slice(0, MAX_CHALLENGES);
}

class Cursor {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[1] ?? match[0];
  }

  skipCommas(): void {
    do this.take(SPACE);
    while (this.#skip(','));
  }

  /** `name = value` and not `name==` of a token68. */
  peekEquals(): boolean {
    const rest = this.#text.slice(this.#at, this.#at + 64);
    return /^[ \t]*=(?!=|[ \t]*(?:,|$))/.test(rest);
  }

  takeParamValue(): string | undefined {
    this.take(SPACE);
    if (!this.#skip('=')) return undefined;
    this.take(SPACE);
    if (this.#text[this.#at] !== '"') return this.take(TOKEN);
    return this.take(QUOTED)?.replace(/\\(.)/g, '$1');
  }

  skipToken68(): void {
    this.take(SPACE);
    this.take(TOKEN68);
  }

  #skip(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }
}
