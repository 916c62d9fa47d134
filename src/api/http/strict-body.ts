import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { isPlainText } from '../../core/plain-text.ts';
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
 * not in another case), no `__proto__`, no half surrogate and no control character but tab and line
 * ends, which keys of SSH have. Objects have no prototype.
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
  if (typeof value === 'string') return refuseControls(value);
  if (typeof value === 'number') return value;
  if (value instanceof JsonReal) return value.value;
  if (isJsonArray(value)) return value.map(plain);
  if (!isJsonObject(value)) return value;
  const object = Object.create(null) as Record<string, unknown>;
  for (const [key, member] of value) {
    if (key === '__proto__') throw invalid('it has a key __proto__');
    object[refuseControls(key)] = plain(member);
  }
  return object;
}

function refuseControls(text: string): string {
  if (isPlainText(text.replaceAll(/[\t\n\r]/g, ''))) return text;
  throw invalid('a text holds a control character, such as NUL');
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot use the request body: ${fact}`);
}
