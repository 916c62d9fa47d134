import { Readable } from 'node:stream';
import { setTimeout as after } from 'node:timers/promises';
import { BuilderdError } from '../../core/errors.ts';

/** What a follower may make us hold beyond the batch that it is being given. */
const BUFFER_BYTES = 16 * 1024;

export interface PacedStreamOptions {
  /** Cut when the reader takes nothing for this long. */
  readonly stalledMs: number;
  /** Ends the source's waiting: it is called before the source is closed. */
  readonly abort: (reason: BuilderdError) => void;
  /** Called once, however it ends. */
  readonly onEnd: () => void;
}

/**
 * A body that is produced as it is read: at most one piece and a small buffer are held, and a
 * reader that stops for `stalledMs` while something waits for it is cut off.
 */
export function pacedStream(
  source: AsyncIterable<string | Uint8Array>,
  { stalledMs, abort, onEnd }: PacedStreamOptions,
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
  body.once('close', onEnd);
  return body;
}

/**
 * Batches of a source as text, with a heartbeat where it is silent. The source is asked for the
 * next batch only when the last one was taken.
 */
export async function* withHeartbeats<T>(
  source: AsyncIterator<T>,
  options: {
    readonly first?: Promise<IteratorResult<T, unknown>>;
    readonly heartbeatMs: number;
    readonly heartbeat: string;
    readonly write: (batch: T) => string;
  },
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
      yield options.write(result.value);
      next = source.next();
    }
  } finally {
    // Left early: nobody waits for the batch that was asked for.
    next.catch(() => undefined);
    await source.return?.();
  }
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
