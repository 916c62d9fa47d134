/** One state of the automaton: a prefix of some pattern. */
interface Node {
  readonly depth: number;
  readonly next: Map<string, Node>;
  /** Longest proper suffix that is a prefix of some pattern too. */
  fallback: Node | undefined;
  /** Length of the longest pattern that ends here; 0 for none. */
  match: number;
}

/** Shorter texts are no secrets: to mask them would make any log unreadable. */
const MIN_SECRET = 4;
/** An entry that ends in this much of a secret, or more, is masked before the rest is seen. */
const MIN_PREFIX = 4;
const MASK = '***';

/**
 * Replaces secrets in text: as they are, line by line, in base64 at any place of a longer text, and
 * escaped for URLs and JSON. A secret that is split over several texts of one stream is found as
 * well (Aho-Corasick; the state is kept between texts); at most its first three characters show.
 */
export class SecretMask {
  readonly #root: Node;
  readonly #longest: number;
  readonly #streams = new Map<string, Node>();

  constructor(secrets: readonly string[]) {
    const patterns = new Set(secrets.flatMap(spellings));
    this.#root = automaton(patterns);
    this.#longest = Math.max(0, ...Array.from(patterns, (pattern) => pattern.length));
  }

  /** The text with its secrets masked; `stream` names what it continues. */
  apply(stream: string, text: string): string {
    if (this.#longest === 0) return text;
    const { spans, state } = this.#scan(this.#streams.get(stream) ?? this.#root, text, 0);
    this.#streams.set(stream, state);
    return cover(text, withPrefix(spans, state, text));
  }

  /** For text that nobody will see: only what a following text could continue is looked at. */
  skip(stream: string, text: string): void {
    if (this.#longest === 0) return;
    const start = Math.max(0, text.length - this.#longest);
    const before = start === 0 ? this.#streams.get(stream) : undefined;
    this.#streams.set(stream, this.#scan(before ?? this.#root, text, start).state);
  }

  /** For a text that stands alone. */
  applyOnce(text: string): string {
    if (this.#longest === 0) return text;
    const { spans, state } = this.#scan(this.#root, text, 0);
    return cover(text, withPrefix(spans, state, text));
  }

  #scan(from: Node, text: string, start: number): { spans: [number, number][]; state: Node } {
    const spans: [number, number][] = [];
    let state = from;
    for (let at = start; at < text.length; at += 1) {
      state = step(this.#root, state, text.charAt(at));
      // Negative where the secret began in an earlier text.
      if (state.match > 0) spans.push([at + 1 - state.match, at + 1]);
    }
    return { spans, state };
  }
}

function withPrefix(spans: [number, number][], state: Node, text: string): [number, number][] {
  if (state.depth >= MIN_PREFIX) spans.push([text.length - state.depth, text.length]);
  return spans;
}

/** Spans come with rising ends; those that touch become one mask. */
function cover(text: string, spans: readonly [number, number][]): string {
  if (spans.length === 0) return text;
  const merged: [number, number][] = [];
  for (const [start, end] of spans) {
    let from = Math.max(0, start);
    for (let last = merged.at(-1); last !== undefined && last[1] >= from; last = merged.at(-1)) {
      from = Math.min(from, last[0]);
      merged.pop();
    }
    merged.push([from, end]);
  }
  let shown = '';
  let at = 0;
  for (const [start, end] of merged) {
    shown += text.slice(at, start) + MASK;
    at = end;
  }
  return shown + text.slice(at);
}

function step(root: Node, from: Node, character: string): Node {
  for (let node: Node | undefined = from; node !== undefined; node = node.fallback) {
    const next = node.next.get(character);
    if (next !== undefined) return next;
  }
  return root;
}

function automaton(patterns: Iterable<string>): Node {
  const root = newNode(0);
  for (const pattern of patterns) {
    let node = root;
    for (const character of pattern.split('')) {
      let next = node.next.get(character);
      if (next === undefined) {
        next = newNode(node.depth + 1);
        node.next.set(character, next);
      }
      node = next;
    }
    node.match = pattern.length;
  }
  const queue = [root];
  for (const node of queue) {
    for (const [character, child] of node.next) {
      child.fallback = node === root ? root : step(root, node.fallback ?? root, character);
      child.match = Math.max(child.match, child.fallback.match);
      queue.push(child);
    }
  }
  return root;
}

function newNode(depth: number): Node {
  return { depth, next: new Map(), fallback: undefined, match: 0 };
}

/** First and last line of a key in PEM: the same in everybody's. */
const ARMOUR = /^-----(?:BEGIN|END) [A-Z0-9 ]+-----$/;

/** All forms in which a secret may show. Entries are single lines: a longer text counts by line. */
function spellings(secret: string): string[] {
  const whole = secret.trim();
  const lines = whole
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line.length >= MIN_SECRET && !ARMOUR.test(line));
  const forms = lines.flatMap((line) => [
    line,
    encodeURIComponent(line.toWellFormed()),
    JSON.stringify(line).slice(1, -1),
    ...base64Forms(line),
  ]);
  if (whole.length >= MIN_SECRET) forms.push(...base64Forms(whole), ...base64Forms(secret));
  return forms.filter((form) => form.length >= MIN_SECRET);
}

/**
 * The characters of base64 that depend on the secret alone, for each of the three places at which
 * it may begin within a group, with both alphabets.
 */
function base64Forms(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  return [0, 1, 2].flatMap((lead) => {
    const encoded = Buffer.concat([Buffer.alloc(lead), bytes]).toString('base64');
    const first = Math.ceil((lead * 8) / 6);
    const last = Math.floor(((lead + bytes.length) * 8) / 6);
    const own = encoded.slice(first, last);
    return [own, own.replaceAll('+', '-').replaceAll('/', '_')];
  });
}
