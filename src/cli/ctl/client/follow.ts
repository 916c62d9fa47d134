import { asBuilderdError, BuilderdError } from '../../../core/errors.ts';
import { event, type LogEntry, logEntry, type ServiceEvent } from './answers.ts';
import { type ApiClient, passingMs } from './api-client.ts';
import { parseJson } from './bounded-json.ts';
import { readEvents, type StreamEvent } from './event-stream.ts';
import { object, text } from './fields.ts';

export interface Following {
  readonly signal: AbortSignal;
  /** Told when the stream is cut, before the wait; the following goes on by itself. */
  readonly onCut?: (reason: BuilderdError) => void;
  readonly nowMs: () => number;
  /** How long a server may be away before we stop asking for it. */
  readonly patienceMs?: number;
}

const PATIENCE_MS = 5 * 60_000;
const HELD_MS = 5000;
const END = object({ state: text });

/**
 * Entries of a build's log as they come, from number `from` on, across cut connections and restarts
 * of the server: each once, in order. Ends when the build has ended; gives its state if it was told.
 */
export async function* followLog(
  client: ApiClient,
  { id, from }: { readonly id: string; readonly from: number },
  following: Following,
): AsyncGenerator<LogEntry, string | undefined, void> {
  let next = from;
  const stream = resumed(client, {
    ...following,
    path: `/v1/builds/${encodeURIComponent(id)}/logs`,
    doing: 'follow the log',
    query: () => ({ from: next }),
    lastId: () => (next > from ? next - 1 : undefined),
  });
  for await (const each of stream) {
    if (each.type === 'end') return END(parseJson(each.data), 'the end').state;
    if (each.type !== 'log') continue;
    const entry = logEntry(parseJson(each.data), 'the entry');
    if (entry.n < next) continue;
    next = entry.n + 1;
    yield entry;
  }
  return undefined;
}

/** A tenant's events after number `after`, as they come, until the signal. */
export async function* followEvents(
  client: ApiClient,
  { after }: { readonly after: number },
  following: Following,
): AsyncGenerator<ServiceEvent, void, void> {
  let seen = after;
  const stream = resumed(client, {
    ...following,
    path: '/v1/events',
    doing: 'follow the events',
    query: () => ({ after: seen }),
    lastId: () => (seen > 0 ? seen : undefined),
  });
  for await (const each of stream) {
    // The token is revoked, or the like: the next request is told so.
    if (each.type === 'fault') continue;
    const read = event(parseJson(each.data), 'the event');
    if (read.seq <= seen) continue;
    seen = read.seq;
    yield read;
  }
}

interface Resumed extends Following {
  readonly path: string;
  readonly doing: string;
  readonly query: () => Readonly<Record<string, number>>;
  readonly lastId: () => number | undefined;
}

/** One stream over many connections. An answer 204 says that nothing will follow. */
async function* resumed(client: ApiClient, use: Resumed): AsyncGenerator<StreamEvent, void, void> {
  const { path, doing, query, lastId, signal, onCut, nowMs, patienceMs = PATIENCE_MS } = use;
  let aliveMs = nowMs();
  let tries = 0;
  for (;;) {
    let cut: BuilderdError;
    const startMs = nowMs();
    try {
      const id = lastId();
      const answer = await client.open(path, {
        doing,
        signal,
        query: query(),
        repeatable: false,
        headers: {
          accept: 'text/event-stream',
          ...(id === undefined ? {} : { 'last-event-id': String(id) }),
        },
      });
      if (answer.status === 204) {
        answer.discard();
        return;
      }
      requireStream(answer.header('content-type'), doing);
      for await (const each of readEvents(answer.body)) {
        aliveMs = nowMs();
        tries = 0;
        yield each;
      }
      cut = new BuilderdError('server.unreachable', `Cannot ${doing}: the server ended the stream`);
    } catch (reason) {
      signal.throwIfAborted();
      if (passingMs(reason) === undefined) throw reason;
      cut = asBuilderdError(reason, doing);
    }
    // A stream that held for a while was alive, also when it was silent.
    if (nowMs() - startMs > HELD_MS) aliveMs = nowMs();
    if (nowMs() - aliveMs > patienceMs) throw cut;
    onCut?.(cut);
    await client.pause(tries, signal, passingMs(cut) ?? 0);
    tries += 1;
  }
}

function requireStream(mediaType: string | undefined, doing: string): void {
  if (mediaType?.startsWith('text/event-stream') === true) return;
  throw new BuilderdError('server.invalid', `Cannot ${doing}: the server sent no event stream`);
}
