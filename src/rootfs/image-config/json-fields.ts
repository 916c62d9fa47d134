import { bytesOf, escapeBytes } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';

/** Bytes of one string that ends up in execve: MAX_ARG_STRLEN of Linux. */
export const MAX_ITEM_BYTES = 128 * 1024;
const MAX_LIST_BYTES = 1024 * 1024;
const MAX_LIST_ITEMS = 10_000;

export type JsonObject = Readonly<Record<string, unknown>>;

export function badConfig(fact: string): BuilderdError {
  return new BuilderdError('image.bad_config', `Cannot use the image config: ${fact}`);
}

/** Foreign text for a message: escaped and short. */
export function shown(text: string): string {
  return `"${escapeBytes(bytesOf(text), 100)}"`;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Go writes an unset field as null; both mean absent. Own fields only: `__proto__` is data. */
export function field(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? (object[name] ?? undefined) : undefined;
}

export function textField(object: JsonObject, name: string): string | undefined {
  const value = field(object, name);
  if (value === undefined) return undefined;
  if (typeof value !== 'string') throw badConfig(`${name} is not a string`);
  if (Buffer.byteLength(value) > MAX_ITEM_BYTES) {
    throw badConfig(`${name} is longer than ${MAX_ITEM_BYTES} bytes`);
  }
  return value;
}

export function booleanField(object: JsonObject, name: string): boolean | undefined {
  const value = field(object, name);
  if (value !== undefined && typeof value !== 'boolean') {
    throw badConfig(`${name} is not true or false`);
  }
  return value;
}

export function integerField(object: JsonObject, name: string): number | undefined {
  const value = field(object, name);
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw badConfig(`${name} is not a whole number`);
  }
  return value;
}

export function objectField(object: JsonObject, name: string): JsonObject | undefined {
  const value = field(object, name);
  if (value === undefined) return undefined;
  if (!isObject(value)) throw badConfig(`${name} is not an object`);
  return value;
}

/** An array of strings without NUL, bounded in count and bytes (security.md A35). */
export function listField(object: JsonObject, name: string): readonly string[] | undefined {
  const value = field(object, name);
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw badConfig(`${name} is not an array of strings`);
  if (value.length > MAX_LIST_ITEMS) {
    throw badConfig(`${name} has ${value.length} items, more than ${MAX_LIST_ITEMS}`);
  }
  const items: string[] = [];
  let total = 0;
  for (const item of value as readonly unknown[]) {
    if (typeof item !== 'string') throw badConfig(`${name} is not an array of strings`);
    if (item.includes('\0')) throw badConfig(`${name} holds a NUL byte`);
    const bytes = Buffer.byteLength(item);
    total += bytes + 1;
    if (bytes > MAX_ITEM_BYTES) {
      throw badConfig(`an item of ${name} is longer than ${MAX_ITEM_BYTES} bytes`);
    }
    if (total > MAX_LIST_BYTES) throw badConfig(`${name} is larger than ${MAX_LIST_BYTES} bytes`);
    items.push(item);
  }
  return items;
}

/** The keys of a set in Go's spelling: `{ "80/tcp": {} }`. */
export function setField(object: JsonObject, name: string): readonly string[] | undefined {
  const value = objectField(object, name);
  if (value === undefined) return undefined;
  const keys = Object.keys(value);
  if (keys.length > MAX_LIST_ITEMS) {
    throw badConfig(`${name} has ${keys.length} items, more than ${MAX_LIST_ITEMS}`);
  }
  if (keys.some((key) => Buffer.byteLength(key) > MAX_ITEM_BYTES)) {
    throw badConfig(`an item of ${name} is longer than ${MAX_ITEM_BYTES} bytes`);
  }
  return keys;
}

/** A map of strings, as a Map: keys such as `__proto__` are plain data (security.md A39). */
export function mapField(object: JsonObject, name: string): ReadonlyMap<string, string> {
  const value = objectField(object, name) ?? {};
  const entries = Object.entries(value).map(([key, text]): [string, string] => {
    if (typeof text !== 'string') throw badConfig(`${name} ${shown(key)} is not a string`);
    return [key, text];
  });
  if (entries.length > MAX_LIST_ITEMS) {
    throw badConfig(`${name} has ${entries.length} items, more than ${MAX_LIST_ITEMS}`);
  }
  return new Map(entries);
}
