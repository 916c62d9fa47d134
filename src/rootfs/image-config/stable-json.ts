/** What `stableJson` writes. Maps keep foreign keys such as `__proto__` plain data. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | ReadonlyMap<string, JsonValue>
  | { readonly [key: string]: JsonValue | undefined };

/**
 * JSON with two spaces of indent and one final newline; equal values give equal bytes. Objects of
 * ours keep the order they are written in; Maps (foreign keys) are sorted by code unit. Undefined
 * fields are left out. Lone surrogates are escaped by JSON.stringify, so the result is valid UTF-8.
 */
export function stableJson(value: JsonValue): string {
  return `${write(value, '')}\n`;
}

function write(value: JsonValue, indent: string): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = `${indent}  `;
  if (isList(value)) {
    if (value.length === 0) return '[]';
    const items = value.map((item) => `${inner}${write(item, inner)}`);
    return `[\n${items.join(',\n')}\n${indent}]`;
  }
  const entries: [string, JsonValue][] = [];
  for (const [key, item] of entriesOf(value)) if (item !== undefined) entries.push([key, item]);
  if (entries.length === 0) return '{}';
  const lines = entries.map(
    ([key, item]) => `${inner}${JSON.stringify(key)}: ${write(item, inner)}`,
  );
  return `{\n${lines.join(',\n')}\n${indent}}`;
}

function isList(value: object): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function entriesOf(
  value: ReadonlyMap<string, JsonValue> | { readonly [key: string]: JsonValue | undefined },
): [string, JsonValue | undefined][] {
  if (!(value instanceof Map)) return Object.entries(value);
  return [...(value as ReadonlyMap<string, JsonValue>)].sort(([a], [b]) => (a < b ? -1 : 1));
}
