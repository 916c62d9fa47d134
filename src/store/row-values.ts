import { BuilderdError } from '../core/errors.ts';

/**
 * Values of a row, checked: a row is foreign data to whoever reads it. All throw `internal` and
 * name the column, never the value.
 */
export function readInteger(value: unknown, column: string): number {
  // PostgreSQL's bigint may come as a text; sums and counts do.
  const number =
    typeof value === 'bigint' || (typeof value === 'string' && /^-?\d{1,16}$/.test(value))
      ? Number(value)
      : value;
  if (typeof number === 'number' && Number.isSafeInteger(number)) return number;
  throw badColumn(column, 'a whole number');
}

export function readOptionalInteger(value: unknown, column: string): number | undefined {
  return value === null || value === undefined ? undefined : readInteger(value, column);
}

export function readText(value: unknown, column: string): string {
  if (typeof value === 'string') return value;
  throw badColumn(column, 'a text');
}

export function readOptionalText(value: unknown, column: string): string | undefined {
  return value === null || value === undefined ? undefined : readText(value, column);
}

export function readBytes(value: unknown, column: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw badColumn(column, 'bytes');
}

/** JSON in a text column. Its shape is still unknown. */
export function readJson(value: unknown, column: string): unknown {
  try {
    return JSON.parse(readText(value, column));
  } catch (reason) {
    throw badColumn(column, 'JSON', reason);
  }
}

export function readJsonObject(value: unknown, column: string): Readonly<Record<string, unknown>> {
  const parsed = readJson(value, column);
  if (isObject(parsed)) return parsed;
  throw badColumn(column, 'a JSON object');
}

export function readOneOf<const W extends string>(
  words: readonly W[],
  value: unknown,
  column: string,
): W {
  const word = words.find((candidate) => candidate === value);
  if (word !== undefined) return word;
  throw badColumn(column, `one of ${words.join(', ')}`);
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function badColumn(column: string, wanted: string, cause?: unknown): BuilderdError {
  return new BuilderdError('internal', `Cannot read ${column} from the database: want ${wanted}`, {
    ...(cause === undefined ? {} : { cause }),
  });
}
