import { writeSync } from 'node:fs';
import type { BuilderdError } from '../../core/errors.ts';
import type { ProgressEvent } from '../../core/progress.ts';
import type { BuildConversion } from '../convert-build.ts';

/** The descriptor, in a worker, that answers go to. */
export const ANSWER_FD = 4;
export const MAX_MESSAGE_CHARS = 2000;
export const MAX_DETAIL_CHARS = 200;
/** Between two looks at the bytes of one layer. */
const TICK_MS = 100;
/** An image may be odd in a thousand ways; fidelity.json tells them all. */
const MAX_NOTICES = 200;

/**
 * The worker's end of the channel: JSON lines `progress`, `failed` and `result`; a result is
 * followed by metadata.json and fidelity.json as they are. Writing blocks while nobody reads.
 */
export class AnswerWriter {
  readonly #fd: number;
  readonly #nowMs: () => number;
  #tickedAt = Number.NEGATIVE_INFINITY;
  #notices = 0;

  constructor(fd: number, nowMs: () => number) {
    this.#fd = fd;
    this.#nowMs = nowMs;
  }

  progress(event: ProgressEvent): void {
    if (event.kind === 'bytes' && event.state === 'running') {
      const now = this.#nowMs();
      if (now - this.#tickedAt < TICK_MS) return;
      this.#tickedAt = now;
    }
    if (event.kind === 'notice' && this.#notices++ >= MAX_NOTICES) return;
    this.#line({ kind: 'progress', event: shortened(event) });
  }

  failed({ code, message }: BuilderdError): void {
    this.#line({
      kind: 'failed',
      code,
      message: message.slice(0, MAX_MESSAGE_CHARS).toWellFormed(),
    });
  }

  result({ artifacts, metadataText, fidelityText }: BuildConversion): void {
    const metadata = Buffer.from(metadataText);
    const fidelity = Buffer.from(fidelityText);
    this.#line({
      kind: 'result',
      artifacts: artifacts.map(({ format, sizeBytes, digest }) => ({ format, sizeBytes, digest })),
      metadataBytes: metadata.length,
      fidelityBytes: fidelity.length,
    });
    this.#write(metadata);
    this.#write(fidelity);
  }

  #line(value: object): void {
    this.#write(Buffer.from(`${JSON.stringify(value)}\n`));
  }

  #write(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
  }
}

function shortened(event: ProgressEvent): ProgressEvent {
  if (event.kind === 'notice') {
    return { ...event, message: event.message.slice(0, MAX_MESSAGE_CHARS).toWellFormed() };
  }
  if (event.kind !== 'phase' || event.detail === undefined) return event;
  return { ...event, detail: event.detail.slice(0, MAX_DETAIL_CHARS).toWellFormed() };
}
