import { BuilderdError } from './errors.ts';

export type JsonObject = ReadonlyMap<string, JsonValue>;
/** Numbers written with a fraction or an exponent are kept apart: they are never a size or a count. */
export type JsonValue =
  | null
  | boolean
  | string
  | number
  | JsonReal
  | readonly JsonValue[]
  | JsonObject;

export class JsonReal {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

export interface JsonLimits {
  readonly maxBytes: number;
  readonly maxDepth: number;
  readonly maxKeys: number;
  /** Further names, folded, of objects whose keys are foreign data. */
  readonly freeForm?: ReadonlySet<string>;
  /** Keys that fold alike are one to whoever reads the document. Default: as Go's decoder folds. */
  readonly fold?: (key: string) => string;
}

export const DOCUMENT_LIMITS: JsonLimits = {
  maxBytes: 4 * 1024 * 1024,
  maxDepth: 32,
  maxKeys: 50_000,
};

/**
 * Reads I-JSON (RFC 7493) that Go and JavaScript understand alike: strict UTF-8, no duplicate
 * keys, no keys equal when case is folded (Go's decoder takes either for a struct field; under
 * the free-form maps of OCI, where Go keeps the case, only true duplicates are refused).
 * Objects become Maps. Throws `source.invalid`, or `source.too_large` above the byte limit.
 */
export function parseStrictJson(bytes: Buffer, what: string, limits = DOCUMENT_LIMITS): JsonValue {
  if (bytes.length > limits.maxBytes) {
    throw new BuilderdError(
      'source.too_large',
      `Cannot read ${what}: it has ${bytes.length} bytes, the limit is ${limits.maxBytes}`,
    );
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (reason) {
    throw new BuilderdError('source.invalid', `Cannot read ${what}: it is not UTF-8`, {
      cause: reason,
    });
  }
  return new Reader(text, what, limits).document();
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

export function isJsonArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

const FREE_FORM = new Set(['labels', 'annotations', 'volumes', 'exposedports']);
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;
// biome-ignore lint: control characters are what this is about
const PLAIN_STRING = /"([^"\\\u0000-\u001f]*)"/y;
const ESCAPES = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);
/** Longer digit strings are not numbers of any document that we read. */
const MAX_NUMBER_CHARS = 64;

class Reader {
  readonly #text: string;
  readonly #what: string;
  readonly #limits: JsonLimits;
  #at = 0;
  #keys = 0;

  constructor(text: string, what: string, limits: JsonLimits) {
    this.#text = text;
    this.#what = what;
    this.#limits = limits;
  }

  document(): JsonValue {
    const value = this.#value(0, false);
    this.#space();
    if (this.#at !== this.#text.length) throw this.#bad('something follows the document');
    return value;
  }

  #value(depth: number, freeForm: boolean): JsonValue {
    if (depth > this.#limits.maxDepth) {
      throw this.#bad(`it is nested deeper than ${this.#limits.maxDepth}`);
    }
    this.#space();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth, freeForm);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #object(depth: number, freeForm: boolean): JsonObject {
    const object = new Map<string, JsonValue>();
    const folded = new Set<string>();
    this.#at += 1;
    if (this.#skip('}')) return object;
    do {
      this.#space();
      if (this.#text[this.#at] !== '"') throw this.#bad('a key is missing');
      const key = this.#string();
      this.#keys += 1;
      if (this.#keys > this.#limits.maxKeys)
        throw this.#bad(`it has over ${this.#limits.maxKeys} keys`);
      const fold = (this.#limits.fold ?? foldCase)(key);
      if (object.has(key) || (!freeForm && folded.has(fold))) {
        throw this.#bad(`it has the key ${JSON.stringify(key.slice(0, 60))} twice`);
      }
      folded.add(fold);
      if (!this.#skip(':')) throw this.#bad('a colon is missing');
      object.set(key, this.#value(depth + 1, this.#isFreeForm(fold)));
    } while (this.#skip(','));
    if (!this.#skip('}')) throw this.#bad('an object does not end');
    return object;
  }

  #isFreeForm(name: string): boolean {
    return FREE_FORM.has(name) || this.#limits.freeForm?.has(name) === true;
  }

  #array(depth: number): readonly JsonValue[] {
    const items: JsonValue[] = [];
    this.#at += 1;
    if (this.#skip(']')) return items;
    do items.push(this.#value(depth + 1, false));
    while (this.#skip(','));
    if (!this.#skip(']')) throw this.#bad('an array does not end');
    return items;
  }

  #string(): string {
    PLAIN_STRING.lastIndex = this.#at;
    const plain = PLAIN_STRING.exec(this.#text);
    if (plain !== null) {
      this.#at = PLAIN_STRING.lastIndex;
      return plain[1] ?? '';
    }
    const parts: string[] = [];
    let from = this.#at + 1;
    for (let at = from; ; at += 1) {
      const code = this.#text.charCodeAt(at);
      if (Number.isNaN(code) || code < 0x20) throw this.#bad('a string does not end');
      if (code === 0x22) {
        parts.push(this.#text.slice(from, at));
        this.#at = at + 1;
        break;
      }
      if (code !== 0x5c) continue;
      const { char, length } = this.#escape(at);
      parts.push(this.#text.slice(from, at), char);
      from = at + length;
      at = from - 1;
    }
    const text = parts.join('');
    if (!text.isWellFormed()) throw this.#bad('a string holds half a surrogate pair');
    return text;
  }

  #escape(at: number): { char: string; length: number } {
    const letter = this.#text[at + 1] ?? '';
    const simple = ESCAPES.get(letter);
    if (simple !== undefined) return { char: simple, length: 2 };
    const hex = this.#text.slice(at + 2, at + 6);
    if (letter !== 'u' || !/^[0-9a-fA-F]{4}$/.test(hex)) throw this.#bad('an escape is not valid');
    return { char: String.fromCharCode(Number.parseInt(hex, 16)), length: 6 };
  }

  #number(): number | JsonReal {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text);
    if (match === null || match[0].length > MAX_NUMBER_CHARS)
      throw this.#bad('a value is not valid');
    this.#at = NUMBER.lastIndex;
    // Adding 0 turns -0 into 0.
    const value = Number(match[0]) + 0;
    return match[1] === undefined && match[2] === undefined ? value : new JsonReal(value);
  }

  #word<T extends JsonValue>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#bad('a value is not valid');
    this.#at += word.length;
    return value;
  }

  #skip(char: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  #space(): void {
    SPACE.lastIndex = this.#at;
    SPACE.test(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #bad(fact: string): BuilderdError {
    return new BuilderdError(
      'source.invalid',
      `Cannot read ${this.#what}: not strict JSON, ${fact} (at character ${this.#at})`,
    );
  }
}

/** As encoding/json folds: ASCII, and the two letters outside it that fold into ASCII. */
function foldCase(key: string): string {
  return key.toLowerCase().replaceAll('\u017f', 's');
}
