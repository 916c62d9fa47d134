import { type DescMessage, fromBinary } from '@bufbuild/protobuf';
import { BuilderdError } from '../../core/errors.ts';
import type { JsonLimits } from '../../core/strict-json.ts';
import { parseStrictBody } from '../http/strict-body.ts';

/** Maps of the wire contract: their keys are data, and may differ in case only. */
const FREE_FORM = new Set(['metadata', 'environment', 'rackconfig', 'env', 'labels']);
/** Flags and length before each message of the enveloped protocols. */
const ENVELOPE_BYTES = 5;

export interface CallForm {
  readonly isJson: boolean;
  /** Flags and a length before each message, as all but Connect's simple calls have. */
  readonly isEnveloped: boolean;
}

export function callFormOf(contentType = ''): CallForm {
  return {
    isJson: /json/i.test(contentType),
    isEnveloped: !/^application\/(?:json|proto)\b/i.test(contentType),
  };
}

/**
 * The body of a call in JSON as it came, once all of it is known to be what REST takes too: the
 * protocol's own reader has no bound on keys and lets the last of two equal ones win. A field has two
 * names there, `buildName` and `build_name`: they count as one. A binary message is read here, too,
 * because that reader calls one that is cut short a fault of the service. Throws `api.invalid`,
 * `api.too_large`.
 */
export async function* strictCallBody(
  body: AsyncIterable<Uint8Array>,
  { isJson, isEnveloped, input }: CallForm & { readonly input: DescMessage },
  limits: Pick<JsonLimits, 'maxBytes' | 'maxDepth' | 'maxKeys'>,
): AsyncGenerator<Uint8Array> {
  const bytes = await readBounded(body, limits.maxBytes + ENVELOPE_BYTES);
  const strict: JsonLimits = { ...limits, freeForm: FREE_FORM, fold: foldFieldName };
  for (const message of isEnveloped ? messagesOf(bytes) : [bytes]) {
    if (isJson) parseStrictBody(message, strict);
    else parseBinary(message, input);
  }
  yield bytes;
}

function parseBinary(message: Buffer, input: DescMessage): void {
  try {
    fromBinary(input, message);
  } catch (reason) {
    throw new BuilderdError(
      'api.invalid',
      `Cannot read the request: its message is no ${input.typeName}`,
      { cause: reason },
    );
  }
}

function foldFieldName(key: string): string {
  return key.toLowerCase().replaceAll('_', '');
}

async function readBounded(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxBytes) {
      throw new BuilderdError(
        'api.too_large',
        `Cannot read the request: its body is over ${maxBytes - ENVELOPE_BYTES} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Of an envelope's flags: its message is compressed. */
const COMPRESSED = 0x01;

/**
 * Messages of a call. What is compressed or no whole envelope is refused where the protocol is read;
 * it passes over flags that it does not know, so that these excuse no message here.
 */
function* messagesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at + ENVELOPE_BYTES <= bytes.length; ) {
    const start = at + ENVELOPE_BYTES;
    const end = start + bytes.readUInt32BE(at + 1);
    const isPlain = ((bytes[at] ?? 0) & COMPRESSED) === 0;
    if (isPlain && end <= bytes.length) yield bytes.subarray(start, end);
    at = end;
  }
}
