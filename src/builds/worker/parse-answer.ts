import { parseDigest } from '../../core/digest.ts';
import { ERRORS, type ErrorCode } from '../../core/error-catalogue.ts';
import { messageOf } from '../../core/errors.ts';
import type { BuildPhase, ProgressEvent } from '../../core/progress.ts';
import {
  isJsonArray,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';
import { FORMATS } from '../request.ts';
import { MAX_DETAIL_CHARS, MAX_MESSAGE_CHARS } from './answer-message.ts';
import { brokenAnswer } from './broken-answer.ts';
import type { ClaimedArtifact } from './converter.ts';

export type Answer =
  | { readonly kind: 'progress'; readonly event: ProgressEvent }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | {
      readonly kind: 'result';
      readonly artifacts: readonly ClaimedArtifact[];
      readonly metadataBytes: number;
      readonly fidelityBytes: number;
    };

/** An image config may have 4 MiB and appears in metadata.json twice, indented. */
export const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024;
const LINE_LIMITS = { maxBytes: 16 * 1024, maxDepth: 4, maxKeys: 64 };

/** What a conversion itself throws. Anything else is a claim that a worker has no business with. */
const WORKER_CODES = new Set<string>(
  Object.keys(ERRORS).filter((code) =>
    /^(?:archive|image|artifact|storage)\.|^source\.(?:invalid|digest_mismatch|size_mismatch|unsupported|too_large)$|^(?:usage\.invalid|quota\.denied|not_supported|isolation\.unavailable|host\.permission)$/.test(
      code,
    ),
  ),
);
const PHASES: readonly BuildPhase[] = ['convert', 'write', 'verify'];

/** One line from a worker, which may hold anything. Throws `internal` for what no worker says. */
export function parseAnswer(line: Buffer): Answer {
  let value: JsonValue;
  try {
    value = parseStrictJson(line, 'a line of the worker', LINE_LIMITS);
  } catch (reason) {
    throw brokenAnswer(messageOf(reason), reason);
  }
  if (!isJsonObject(value)) throw brokenAnswer('a line is not an object');
  const kind = value.get('kind');
  if (kind === 'progress') return { kind, event: parseEvent(value.get('event')) };
  if (kind === 'failed') return parseFailure(value);
  if (kind !== 'result') throw brokenAnswer('a line is of no known kind');
  const list = value.get('artifacts');
  if (!isJsonArray(list) || list.length > FORMATS.length)
    throw brokenAnswer('it has no list of artifacts');
  return {
    kind,
    artifacts: list.map(parseArtifact),
    metadataBytes: parseCount(value.get('metadataBytes'), MAX_DOCUMENT_BYTES),
    fidelityBytes: parseCount(value.get('fidelityBytes'), MAX_DOCUMENT_BYTES),
  };
}

function parseFailure(value: JsonObject): Answer {
  const message = parseText(value.get('message'), MAX_MESSAGE_CHARS);
  const code = value.get('code');
  if (typeof code === 'string' && isWorkerCode(code)) return { kind: 'failed', code, message };
  return { kind: 'failed', code: 'internal', message };
}

function isWorkerCode(code: string): code is ErrorCode {
  return WORKER_CODES.has(code);
}

function parseArtifact(value: JsonValue): ClaimedArtifact {
  if (!isJsonObject(value)) throw brokenAnswer('an artifact is not an object');
  const format = FORMATS.find((each) => each === value.get('format'));
  if (format === undefined) throw brokenAnswer('an artifact is of no known format');
  const sizeBytes = parseCount(value.get('sizeBytes'), Number.MAX_SAFE_INTEGER);
  try {
    return { format, sizeBytes, digest: parseDigest(value.get('digest')) };
  } catch (reason) {
    throw brokenAnswer('the digest of an artifact is none', reason);
  }
}

function parseEvent(value: JsonValue | undefined): ProgressEvent {
  if (!isJsonObject(value)) throw brokenAnswer('progress without an event');
  const kind = value.get('kind');
  if (kind === 'notice') return parseNotice(value);
  const phase = PHASES.find((each) => each === value.get('phase'));
  if (phase === undefined) throw brokenAnswer('progress of an unknown phase');
  const state = value.get('state');
  if (kind === 'phase' && (state === 'started' || state === 'done')) {
    const detail = value.get('detail');
    if (detail === undefined) return { kind, phase, state };
    return { kind, phase, state, detail: parseText(detail, MAX_DETAIL_CHARS) };
  }
  if (kind === 'bytes' && (state === 'running' || state === 'done' || state === 'reused')) {
    return { kind, phase, state, id: parseId(value.get('id')), ...parseBytes(value) };
  }
  throw brokenAnswer('progress of no known kind');
}

function parseNotice(value: JsonObject): ProgressEvent {
  const level = value.get('level');
  if (level !== 'info' && level !== 'warning') throw brokenAnswer('a notice without a level');
  const message = parseText(value.get('message'), MAX_MESSAGE_CHARS);
  return { kind: 'notice', level, message };
}

function parseBytes(value: JsonObject): { doneBytes: number; totalBytes?: number } {
  const doneBytes = parseCount(value.get('doneBytes'), Number.MAX_SAFE_INTEGER);
  const total = value.get('totalBytes');
  if (total === undefined) return { doneBytes };
  return { doneBytes, totalBytes: parseCount(total, Number.MAX_SAFE_INTEGER) };
}

function parseId(value: JsonValue | undefined): string {
  try {
    return parseDigest(value);
  } catch (reason) {
    throw brokenAnswer('progress of something that is no layer', reason);
  }
}

function parseCount(value: JsonValue | undefined, max: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max) {
    return value;
  }
  throw brokenAnswer('a number is missing or out of range');
}

/** Foreign text for logs and terminals: no control characters, no second line, not too long. */
function parseText(value: JsonValue | undefined, maxChars: number): string {
  if (typeof value !== 'string') throw brokenAnswer('a text is missing');
  return harmless(value, maxChars);
}

export function harmless(text: string, maxChars: number): string {
  const escaped = text
    .slice(0, maxChars)
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) =>
      Array.from(Buffer.from(char), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
    );
  return escaped.slice(0, maxChars).toWellFormed();
}
