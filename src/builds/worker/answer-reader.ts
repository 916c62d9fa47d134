import type { Readable } from 'node:stream';
import type { ErrorCode } from '../../core/error-catalogue.ts';
import type { ProgressListener } from '../../core/progress.ts';
import { brokenAnswer } from './broken-answer.ts';
import type { ClaimedArtifact } from './converter.ts';
import { parseAnswer } from './parse-answer.ts';

/** What a worker said in the end. */
export type WorkerAnswer =
  | {
      readonly kind: 'result';
      readonly artifacts: readonly ClaimedArtifact[];
      readonly metadata: Buffer;
      readonly fidelity: Buffer;
    }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  /** Nothing: it died, or closed the channel. */
  | { readonly kind: 'none' };

export interface AnswerReaderOptions {
  readonly onProgress: ProgressListener;
  /** Its last line has come: now it has only to end. */
  readonly onAnswered: () => void;
  readonly nowMs: () => number;
}

const MAX_LINE_BYTES = 16 * 1024;
/** A worker tells ten times a second, and once for each of at most 127 layers and 200 notices. */
const BURST_LINES = 1000;
const LINES_PER_SECOND = 100;

/** Reads a worker's channel to its end. Throws `internal` as soon as the protocol is broken. */
export async function readAnswers(
  channel: Readable,
  options: AnswerReaderOptions,
): Promise<WorkerAnswer> {
  const reader = new AnswerReader(options);
  for await (const chunk of channel) reader.push(chunk);
  return reader.finish();
}

type Result = Extract<WorkerAnswer, { readonly kind: 'result' }>;

/** Holds at most one line, or the documents whose sizes a checked line has announced. */
class AnswerReader {
  readonly #o: AnswerReaderOptions;
  #line: Buffer[] = [];
  #lineBytes = 0;
  #allowance = BURST_LINES;
  #refilledAt: number;
  #answer: WorkerAnswer = { kind: 'none' };
  /** Of the documents behind a result line. */
  #missing:
    | { readonly result: Result; readonly parts: readonly Buffer[]; filled: number }
    | undefined;

  constructor(options: AnswerReaderOptions) {
    this.#o = options;
    this.#refilledAt = options.nowMs();
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#missing !== undefined) at += this.#document(chunk.subarray(at));
      else at += this.#piece(chunk.subarray(at));
    }
  }

  finish(): WorkerAnswer {
    if (this.#lineBytes > 0) throw brokenAnswer('it ends within a line');
    if (this.#missing !== undefined) throw brokenAnswer('it ends within a document');
    return this.#answer;
  }

  /** Takes up to one whole line; gives how many bytes it used. */
  #piece(bytes: Buffer): number {
    if (this.#answer.kind !== 'none') throw brokenAnswer('something follows its last line');
    const end = bytes.indexOf(0x0a);
    const used = end < 0 ? bytes.length : end;
    this.#lineBytes += used;
    if (this.#lineBytes > MAX_LINE_BYTES) {
      throw brokenAnswer(`it has a line of more than ${MAX_LINE_BYTES} bytes`);
    }
    this.#line.push(bytes.subarray(0, used));
    if (end < 0) return used;
    const line = Buffer.concat(this.#line);
    this.#line = [];
    this.#lineBytes = 0;
    this.#spend();
    this.#take(line);
    return used + 1;
  }

  #spend(): void {
    const now = this.#o.nowMs();
    const earned = ((now - this.#refilledAt) / 1000) * LINES_PER_SECOND;
    this.#refilledAt = now;
    this.#allowance = Math.min(BURST_LINES, this.#allowance + earned) - 1;
    if (this.#allowance < 0) throw brokenAnswer('it floods the channel');
  }

  #take(line: Buffer): void {
    const answer = parseAnswer(line);
    if (answer.kind === 'progress') {
      this.#o.onProgress(answer.event);
      return;
    }
    if (answer.kind === 'failed') {
      this.#answer = answer;
      this.#o.onAnswered();
      return;
    }
    const metadata = Buffer.alloc(answer.metadataBytes);
    const fidelity = Buffer.alloc(answer.fidelityBytes);
    const { artifacts } = answer;
    const result: Result = { kind: 'result', artifacts, metadata, fidelity };
    this.#missing = { result, parts: [metadata, fidelity], filled: 0 };
    this.#settle();
  }

  #document(bytes: Buffer): number {
    const missing = this.#missing;
    if (missing === undefined) return 0;
    let used = 0;
    let start = 0;
    for (const part of missing.parts) {
      const from = missing.filled - start;
      if (from >= 0 && from < part.length) {
        const count = bytes.copy(part, from, used);
        used += count;
        missing.filled += count;
      }
      start += part.length;
    }
    this.#settle();
    return used;
  }

  #settle(): void {
    const missing = this.#missing;
    if (missing === undefined) return;
    const total = missing.parts.reduce((sum, part) => sum + part.length, 0);
    if (missing.filled < total) return;
    this.#answer = missing.result;
    this.#missing = undefined;
    this.#o.onAnswered();
  }
}
