import { BuilderdError } from '../../../core/errors.ts';

/**
 * Reads one value of an answer, or throws `server.invalid`. Fields that it does not know are
 * dropped, so that a newer server still works and a hostile one cannot smuggle anything through.
 */
export type Parse<T> = (value: unknown, at: string) => T;

type Shape = Readonly<Record<string, Parse<unknown>>>;
export type Parsed<P> = P extends Parse<infer T> ? T : never;

const MAX_ITEMS = 100_000;
const MAX_DEPTH = 16;

function wrong(at: string, wanted: string): BuilderdError {
  return new BuilderdError(
    'server.invalid',
    `Cannot read the server's answer: ${at.slice(0, 200)} is no ${wanted}`,
  );
}

export const text: Parse<string> = (value, at) => {
  if (typeof value !== 'string') throw wrong(at, 'text');
  return value;
};

/** Ids become parts of paths and of commands that people copy. */
export const id: Parse<string> = (value, at) => {
  const read = text(value, at);
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(read)) throw wrong(at, 'id');
  return read;
};

export const number: Parse<number> = (value, at) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(at, 'number');
  return value;
};

/** A size or a count: whole, exact and not negative. */
export const count: Parse<number> = (value, at) => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw wrong(at, 'whole number');
  }
  return value;
};

export const flag: Parse<boolean> = (value, at) => {
  if (typeof value !== 'boolean') throw wrong(at, 'true or false');
  return value;
};

/** RFC 3339; kept as text, for that is what people and programs are given. */
export const time: Parse<string> = (value, at) => {
  const read = text(value, at);
  if (Number.isNaN(Date.parse(read)) || read.length > 40) throw wrong(at, 'time');
  return read;
};

export function optional<T>(parse: Parse<T>): Parse<T | undefined> {
  return (value, at) => (value === undefined || value === null ? undefined : parse(value, at));
}

export function list<T>(parse: Parse<T>): Parse<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value) || value.length > MAX_ITEMS) throw wrong(at, 'list');
    return value.map((each: unknown, index) => parse(each, `${at}[${index}]`));
  };
}

export function map<T>(parse: Parse<T>): Parse<Readonly<Record<string, T>>> {
  return (value, at) => {
    const known = Object.create(null) as Record<string, T>;
    for (const [key, each] of membersOf(value, at)) known[key] = parse(each, `${at}.${key}`);
    return known;
  };
}

export function object<S extends Shape>(
  shape: S,
): Parse<{ readonly [K in keyof S]: Parsed<S[K]> }> {
  return (value, at) => {
    const members = new Map(membersOf(value, at));
    const read = Object.entries(shape).map(([key, parse]) => [
      key,
      parse(members.get(key), `${at}.${key}`),
    ]);
    return Object.fromEntries(read) as { readonly [K in keyof S]: Parsed<S[K]> };
  };
}

/** Parts whose form is not ours to say: copied, but not without bound. */
export const json: Parse<unknown> = (value, at) => copy(value, at, 0);

function copy(value: unknown, at: string, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth === MAX_DEPTH) throw wrong(at, 'shallow value');
  if (Array.isArray(value)) {
    return value.map((each: unknown) => copy(each, at, depth + 1));
  }
  const same = Object.create(null) as Record<string, unknown>;
  for (const [key, each] of Object.entries(value)) same[key] = copy(each, at, depth + 1);
  return same;
}

function membersOf(value: unknown, at: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrong(at, 'object');
  }
  return Object.entries(value);
}
