import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import {
  isJsonArray,
  isJsonObject,
  type JsonLimits,
  JsonReal,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';

/**
 * A request body as plain data: strict UTF-8 and JSON, bounded depth and keys, no key twice (also
 * not in another case), no `__proto__`, no NUL and no half surrogate. Objects have no prototype.
 * Throws `api.invalid`.
 */
export function parseStrictBody(bytes: Buffer, limits: JsonLimits): unknown {
  let document: JsonValue;
  try {
    document = parseStrictJson(bytes, 'the request body', limits);
  } catch (reason) {
    if (isBuilderdError(reason, 'source.too_large')) throw recoded('api.too_large', reason);
    if (isBuilderdError(reason, 'source.invalid')) throw recoded('api.invalid', reason);
    throw reason;
  }
  return plain(document);
}

function recoded(code: 'api.invalid' | 'api.too_large', reason: BuilderdError): BuilderdError {
  return new BuilderdError(code, reason.message, { cause: reason });
}

function plain(value: JsonValue): unknown {
  if (typeof value === 'string') return refuseNul(value);
  if (typeof value === 'number') return value;
  if (value instanceof JsonReal) return value.value;
  if (isJsonArray(value)) return value.map(plain);
  if (!isJsonObject(value)) return value;
  const object = Object.create(null) as Record<string, unknown>;
  for (const [key, member] of value) {
    if (key === '__proto__') throw invalid('it has a key __proto__');
    object[refuseNul(key)] = plain(member);
  }
  return object;
}

function refuseNul(text: string): string {
  if (text.includes('\0')) throw invalid('a text holds a NUL character');
  return text;
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot use the request body: ${fact}`);
}
