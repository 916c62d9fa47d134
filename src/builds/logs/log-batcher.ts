import { formatBytes } from '../../core/units.ts';
import { DropGate, type DropReason } from './drop-gate.ts';
import { encodeLogLine, type NewLogEntry } from './log-lines.ts';
import type { LogLimits } from './log-limits.ts';
import { clipText, readableText } from './readable-text.ts';
import { SecretMask } from './secret-mask.ts';

/** Entries that go into the database together. */
export interface LogBatch {
  readonly entries: number;
  readonly data: Buffer;
  readonly droppedBytes: number;
}

interface Line {
  readonly text: string;
  readonly bytes: number;
  /** Markers and borders are few, and always kept. */
  readonly always: boolean;
}

const MAX_COMPONENT = 64;
const MAX_METADATA = 16;
const MAX_METADATA_BYTES = 1024;
const REASONS: Readonly<Record<Exclude<DropReason, 'size'>, string>> = {
  rate: 'they came faster than the log may grow',
  backlog: 'the database did not keep up',
};

/**
 * Turns what a build says into lines of a log: masked, readable, within limits. What is dropped is
 * counted, and a marker with the count stands where it would have been.
 */
export class LogBatcher {
  readonly #limits: LogLimits;
  readonly #mask: SecretMask;
  readonly #gate: DropGate;
  readonly #now: () => number;
  #lines: Line[] = [];
  #queuedBytes = 0;
  #gap = new Map<Exclude<DropReason, 'size'>, number>();
  #droppedBytes = 0;
  #full = false;
  #beyondFullBytes = 0;

  constructor(options: {
    readonly limits: LogLimits;
    readonly mask: readonly string[];
    readonly nowMs: () => number;
    readonly monotonicMs: () => number;
  }) {
    this.#limits = options.limits;
    this.#mask = new SecretMask(options.mask);
    this.#gate = new DropGate(options.limits, options.monotonicMs);
    this.#now = options.nowMs;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Lines to write, or a gap to tell of. */
  get isEmpty(): boolean {
    return this.#lines.length === 0 && this.#gap.size === 0;
  }

  /** One entry for each line of its message. */
  add(entry: NewLogEntry): void {
    const metadata = this.#safeMetadata(entry.metadata);
    let start = 0;
    for (const { index } of entry.message.matchAll(/\r\n|\n|\r/g)) {
      if (index >= start) this.#addLine(entry, entry.message.slice(start, index), metadata);
      start = index + (entry.message.startsWith('\r\n', index) ? 2 : 1);
    }
    // A message that ends with a line end has said all; an empty one is a line.
    if (start < entry.message.length || start === 0) {
      this.#addLine(entry, entry.message.slice(start), metadata);
    }
  }

  /** Something of ours that is always kept; nothing in it is masked. */
  addMarker(message: string, metadata: Readonly<Record<string, string>>): void {
    const entry = {
      time: this.#now(),
      level: 'warn',
      component: 'service',
      message,
      metadata,
    } as const;
    this.#lines.push(this.#line(entry, true));
  }

  /** A border before all that waits. */
  addFirst(
    message: string,
    {
      time,
      metadata,
    }: { readonly time: number; readonly metadata: Readonly<Record<string, string>> },
  ): void {
    const entry = {
      time,
      level: 'info',
      component: 'service',
      message,
      metadata,
    } as const;
    this.#lines.unshift(this.#line(entry, true));
  }

  /**
   * Takes lines off the queue, about `maxBytes` of them. `roomBytes` is what the build's log may
   * still take; lines beyond are dropped.
   */
  take(maxBytes: number, roomBytes: number): LogBatch | undefined {
    const taken: string[] = [];
    let bytes = 0;
    let count = 0;
    // A drop below adds a marker to the list that is walked; it comes behind, and is taken too.
    for (const line of this.#lines) {
      if (bytes >= maxBytes) break;
      count += 1;
      this.#queuedBytes -= line.bytes;
      if (!line.always && bytes + line.bytes > roomBytes) {
        this.#drop('size', line.bytes);
        continue;
      }
      taken.push(line.text);
      bytes += line.bytes;
    }
    this.#lines = this.#lines.slice(count);
    if (taken.length === 0) return undefined;
    const droppedBytes = this.#droppedBytes;
    this.#droppedBytes = 0;
    return { entries: taken.length, data: Buffer.from(taken.join('')), droppedBytes };
  }

  /** Puts a marker for what was dropped since the last one. */
  closeGap(): void {
    for (const [reason, bytes] of this.#gap) {
      this.addMarker(`${formatBytes(bytes)} of log were dropped: ${REASONS[reason]}`, {
        droppedBytes: String(bytes),
        reason,
      });
    }
    this.#gap = new Map();
  }

  /** No entry follows: tells how much a full log did not keep. */
  finish(): void {
    this.closeGap();
    if (this.#beyondFullBytes === 0) return;
    this.addMarker(`${formatBytes(this.#beyondFullBytes)} of log were dropped: it is full`, {
      droppedBytes: String(this.#beyondFullBytes),
      reason: 'size',
    });
    this.#beyondFullBytes = 0;
  }

  /** Gives up what waits: nobody will write it. */
  clear(): void {
    this.#lines = [];
    this.#gap = new Map();
    this.#queuedBytes = 0;
  }

  #addLine(
    entry: NewLogEntry,
    message: string,
    metadata: Readonly<Record<string, string>> | undefined,
  ): void {
    const refusal = this.#full ? 'size' : this.#gate.refusal(this.#queuedBytes);
    if (refusal !== undefined) {
      this.#mask.skip(entry.component, message);
      this.#drop(refusal, Buffer.byteLength(message) + 1);
      return;
    }
    this.closeGap();
    const { lineBytes } = this.#limits;
    // Cut before the work, and again after it: masks and spelled-out bytes change the length.
    const head = message.slice(0, lineBytes);
    const shown = readableText(this.#mask.apply(entry.component, head));
    if (head.length < message.length) this.#mask.skip(entry.component, message.slice(lineBytes));
    const clipped = clipText(shown, lineBytes);
    const cut = clipped.cutBytes + Buffer.byteLength(message.slice(lineBytes));
    if (cut > 0) this.#droppedBytes += cut;
    const { time, level } = entry;
    const line = this.#line(
      {
        time: Number.isFinite(time) ? Math.trunc(time) : this.#now(),
        level,
        component: this.#safe(entry.component, MAX_COMPONENT),
        message:
          cut > 0 ? `${clipped.text} [${cut} bytes of this line were dropped]` : clipped.text,
        ...(metadata === undefined ? {} : { metadata }),
      },
      false,
    );
    this.#gate.spend(line.bytes);
    this.#lines.push(line);
  }

  #line(entry: NewLogEntry, always: boolean): Line {
    const text = encodeLogLine(entry);
    const bytes = Buffer.byteLength(text);
    this.#queuedBytes += bytes;
    return { text, bytes, always };
  }

  #drop(reason: DropReason, bytes: number): void {
    this.#droppedBytes += bytes;
    if (reason !== 'size') {
      this.#gap.set(reason, (this.#gap.get(reason) ?? 0) + bytes);
      return;
    }
    // A marker for each gap in a full log would fill it further: one now, one at the end.
    this.#beyondFullBytes += bytes;
    if (this.#full) return;
    this.#full = true;
    this.addMarker('The log of this build is full: what follows is not kept', {
      limitBytes: String(this.#limits.buildBytes),
    });
  }

  #safeMetadata(
    metadata: Readonly<Record<string, string>> | undefined,
  ): Readonly<Record<string, string>> | undefined {
    if (metadata === undefined) return undefined;
    const fields = Object.entries(metadata).slice(0, MAX_METADATA);
    return Object.fromEntries(
      fields.map(([key, value]) => [
        this.#safe(key, MAX_METADATA_BYTES),
        this.#safe(value, MAX_METADATA_BYTES),
      ]),
    );
  }

  /** For short texts that continue nothing. */
  #safe(text: string, maxBytes: number): string {
    const head = text.slice(0, maxBytes);
    return clipText(readableText(this.#mask.applyOnce(head)), maxBytes).text;
  }
}
