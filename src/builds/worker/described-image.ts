import { BuilderdError, messageOf } from '../../core/errors.ts';
import {
  isJsonArray,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';
import type { ImageToConvert } from '../convert-build.ts';
import type { ImageFacts } from '../service/views.ts';
import type { ClaimedArtifact } from './converter.ts';
import { MAX_DOCUMENT_BYTES } from './parse-answer.ts';

const LIMITS = {
  maxBytes: MAX_DOCUMENT_BYTES,
  maxDepth: 16,
  maxKeys: 200_000,
  // `http_proxy` and `HTTP_PROXY` are two variables.
  freeForm: new Set(['env']),
};
/** Bytes of one string that ends up in execve: MAX_ARG_STRLEN of Linux. */
const MAX_TEXT_BYTES = 128 * 1024;
const MAX_ITEMS = 10_000;
/** Of all facts together: they are kept in the row of the build, metadata.json has the whole. */
const MAX_FACTS_BYTES = 256 * 1024;

export interface ExpectedDocuments {
  readonly image: Pick<ImageToConvert, 'reference' | 'target' | 'layers'>;
  readonly artifacts: readonly ClaimedArtifact[];
}

/**
 * Reads metadata.json and fidelity.json of a conversion: strict JSON that names the image asked
 * for and the artifacts claimed. Throws `internal`: only a broken worker writes anything else.
 */
export function parseDocuments(
  metadata: Buffer,
  fidelity: Buffer,
  expected: ExpectedDocuments,
): ImageFacts {
  const described = parseDocument(metadata, 'metadata.json', 'builderd.metadata.v1');
  const report = parseDocument(fidelity, 'fidelity.json', 'builderd.fidelity.v1');
  const { image } = expected;
  for (const [name, document] of [
    ['metadata.json', described],
    ['fidelity.json', report],
  ] as const) {
    const source = objectOf(document, 'source');
    if (
      source.get('reference') !== image.reference ||
      source.get('digest') !== image.target.digest
    ) {
      throw broken(`${name} describes another image`);
    }
  }
  checkArtifacts(described.get('artifacts'), expected.artifacts);
  const own = objectOf(described, 'config');
  const facts: ImageFacts = {
    originalImage: image.reference,
    imageDigest: image.target.digest,
    layers: image.layers.map((layer) => layer.digest),
    labels: textMap(described, 'labels'),
    // The image's own words; the keys beside them say what the guest runs.
    command: textList(own, 'Cmd'),
    entrypoint: textList(own, 'Entrypoint'),
    workingDir: textOf(own.get('WorkingDir'), 'WorkingDir'),
    env: variables(textList(own, 'Env')),
    exposedPorts: textList(own, 'ExposedPorts'),
    user: textOf(described.get('user'), 'user'),
    volumes: textList(described, 'volumes'),
  };
  if (Buffer.byteLength(JSON.stringify(facts)) <= MAX_FACTS_BYTES) return facts;
  throw new BuilderdError(
    'image.bad_config',
    `Cannot keep the description of the image: its configuration is over ${MAX_FACTS_BYTES} bytes`,
  );
}

function parseDocument(bytes: Buffer, name: string, schema: string): JsonObject {
  let value: JsonValue;
  try {
    value = parseStrictJson(bytes, name, LIMITS);
  } catch (reason) {
    throw broken(messageOf(reason), reason);
  }
  if (isJsonObject(value) && value.get('schema') === schema) return value;
  throw broken(`${name} is not of the schema ${schema}`);
}

function checkArtifacts(value: JsonValue | undefined, claimed: readonly ClaimedArtifact[]): void {
  const same =
    isJsonArray(value) &&
    value.length === claimed.length &&
    claimed.every((artifact, i) => {
      const item = value[i];
      return (
        isJsonObject(item) &&
        item.get('format') === artifact.format &&
        item.get('sizeBytes') === artifact.sizeBytes &&
        item.get('digest') === artifact.digest
      );
    });
  if (!same) throw broken('metadata.json describes other artifacts');
}

function objectOf(object: JsonObject, name: string): JsonObject {
  const value = object.get(name);
  if (isJsonObject(value)) return value;
  throw broken(`${name} is not an object`);
}

function textOf(value: JsonValue | undefined, name: string): string {
  if (typeof value === 'string' && Buffer.byteLength(value) <= MAX_TEXT_BYTES) return value;
  throw broken(`${name} is not a text of at most ${MAX_TEXT_BYTES} bytes`);
}

function textList(object: JsonObject, name: string): string[] {
  const value = object.get(name);
  if (isJsonArray(value) && value.length <= MAX_ITEMS)
    return value.map((each) => textOf(each, name));
  throw broken(`${name} is not a list of at most ${MAX_ITEMS} texts`);
}

/** Without a prototype: the keys are foreign, and `__proto__` is one like any other. */
function textMap(object: JsonObject, name: string): Record<string, string> {
  const map: Record<string, string> = Object.create(null);
  const value = objectOf(object, name);
  if (value.size > MAX_ITEMS) throw broken(`${name} has more than ${MAX_ITEMS} keys`);
  for (const [key, item] of value) map[textOf(key, name)] = textOf(item, name);
  return map;
}

/** `NAME=value` as the description writes them; without a prototype, too. */
function variables(entries: readonly string[]): Record<string, string> {
  const map: Record<string, string> = Object.create(null);
  for (const entry of entries) {
    const at = entry.indexOf('=');
    if (at <= 0) throw broken('a variable has no name');
    map[entry.slice(0, at)] = entry.slice(at + 1);
  }
  return map;
}

function broken(fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'internal',
    `Cannot use the description of the image: ${fact}`,
    cause === undefined ? {} : { cause },
  );
}
