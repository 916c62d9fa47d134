import { BuilderdError } from '../../core/errors.ts';
import { isPlainText } from '../../core/plain-text.ts';

/**
 * Query texts as the route's schema means them: whole numbers, true and false, and single values
 * where a list is meant. What does not look like one is left for the schema to refuse.
 */
export function typedQuery(query: unknown, schema: unknown): Record<string, unknown> {
  const typed: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  if (typeof query !== 'object' || query === null) return typed;
  for (const [key, value] of Object.entries(query)) {
    refuseControls(key);
    typed[key] = typedValue(value, typeOf(schema, key));
  }
  return typed;
}

function typedValue(value: unknown, type: string | undefined): unknown {
  if (Array.isArray(value)) return value.map((each) => typedValue(each, undefined));
  if (typeof value !== 'string') return value;
  refuseControls(value);
  if (type === 'array') return [value];
  if (type === 'integer' && /^-?\d{1,15}$/.test(value)) return Number(value);
  if (type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true';
  return value;
}

function typeOf(schema: unknown, key: string): string | undefined {
  const properties = memberOf(schema, 'properties');
  const type = memberOf(memberOf(properties, key), 'type');
  return typeof type === 'string' ? type : undefined;
}

function memberOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}

function refuseControls(text: string): void {
  if (isPlainText(text)) return;
  throw new BuilderdError(
    'api.invalid',
    'Cannot use the query: a text holds a control character or half a character',
  );
}
