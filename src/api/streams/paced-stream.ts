import { Readable } from 'node:stream';
import { setTimeout as after } from 'node:timers/promises';
import { BuilderdError } from '../../core/errors.ts';

/** What a follower may make us hold beyond the batch that it shares with others. */
const BUFFER_BYTES = 16 * 1024;

export interface PacedStreamOptions {
  /** Cut when the reader takes nothing for this long. */
  readonly stalledMs: number;
  /** Ends the source's waiting: it is called before the source is closed. */
  readonly abort: (reason: BuilderdError) => void;
  /** Called once, however it ends. */
  readonly onEnd: () => void;
  /** The answer has begun, so that nobody else can be told of what breaks it. */
  readonly onFault: (reason: unknown) => void;
}

/**
 * A body that is produced as it is read: at most one piece and a small buffer are held, and a
 * reader that stops for `stalledMs` while something waits for it is cut off.
 */
export function pacedStream(
  source: AsyncIterable<string | Uint8Array>,
  { stalledMs, abort, onEnd, onFault }: PacedStreamOptions,
): Readable {
  const cut = (): void => {
    const reason = stalled(stalledMs);
    abort(reason);
    body.destroy(reason);
  };
  async function* watched(): AsyncGenerator<string | Uint8Array, void, void> {
    let timer: NodeJS.Timeout | undefined;
    try {
      for await (const piece of source) {
        timer = setTimeout(cut, stalledMs);
        // Resumed when the reader asks for more.
        yield piece;
        clearTimeout(timer);
      }
    } finally {
      clearTimeout(timer);
    }
  }
  const body = Readable.from(watched(), { objectMode: false, highWaterMark: BUFFER_BYTES });
  body.once('error', onFault);
  body.once('close', onEnd);
  return body;
}

export interface HeartbeatOptions<T> {
  /** The first batch, when it was asked for already. */
  readonly first?: Promise<IteratorResult<readonly T[], unknown>>;
  readonly heartbeatMs: number;
  readonly heartbeat: string;
  readonly write: (item: T) => string;
}

/**
 * The items of batches as text, with a heartbeat where the source is silent. Items are written as
 * they are taken, and the source is asked for the next batch only when the last one was taken: a
 * reader that stops makes us hold one small piece of text.
 */
export async function* withHeartbeats<T>(
  source: AsyncIterator<readonly T[]>,
  options: HeartbeatOptions<T>,
): AsyncGenerator<string, void, void> {
  let next = options.first ?? source.next();
  try {
    for (;;) {
      const stop = new AbortController();
      const result = await Promise.race([next, silence(options.heartbeatMs, stop.signal)]);
      stop.abort();
      if (result === 'silent') {
        yield options.heartbeat;
        continue;
      }
      if (result.done === true) return;
      yield* piecesOf(result.value, options.write);
      next = source.next();
    }
  } finally {
    // Left early: nobody waits for the batch that was asked for.
    next.catch(() => undefined);
    await source.return?.();
  }
}

/** Small items are sent together, large ones alone. */
function* piecesOf<T>(batch: readonly T[], write: (item: T) => string): Generator<string> {
  let piece = '';
  for (const item of batch) {
    piece += write(item);
    if (piece.length < BUFFER_BYTES) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

async function silence(ms: number, signal: AbortSignal): Promise<'silent'> {
  try {
    return await after(ms, 'silent', { signal });
  } catch (reason) {
    if (signal.aborted) return 'silent';
    throw reason;
  }
}

function stalled(ms: number): BuilderdError {
  return new BuilderdError('build.cancelled', `Cannot go on: the reader took nothing for ${ms} ms`);
}
